"""The Python client against the real server: every event once, whatever happens to the connection."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from huahuo.eventstore.memory import ModelDisk
from huahuo.transport.client import retry
from huahuo.transport.client.connection import Receiver
from huahuo.transport.client.cursors import FileCursors
from huahuo.transport.client.model import (
    Batch,
    Connecting,
    Lag,
    Live,
    Offline,
    Online,
    Outcome,
    Problem,
    Stopped,
)
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.clients import STREAM, Heard, behind_proxy, client_of, collect, texts
from tests.support.worlds.wire import World, until, world


async def test_events_missed_while_the_connection_was_cut_come_after_it() -> None:
    async with behind_proxy() as (server, proxy), client_of(server, proxy.port) as client:
        async with client.events(STREAM, "start") as events:
            await server.append(STREAM, "a", "b")
            seen = await collect(events, 2)
            proxy.refuse()
            proxy.cut()
            await server.append(STREAM, "c", "d")
            proxy.heal()
            await server.append(STREAM, "e")
            seen += await collect(events, 3)
        assert texts(seen) == ["a", "b", "c", "d", "e"]
        assert [event.seq for event in seen] == [1, 2, 3, 4, 5]


async def test_a_client_that_received_nothing_yet_resumes_too() -> None:
    async with behind_proxy() as (server, proxy), client_of(server, proxy.port) as client:
        await server.append(STREAM, "before")
        async with client.events(STREAM, "head") as events:
            assert (await events.ready()).outcome == "fresh"
            proxy.cut()
            await server.append(STREAM, "while away")
            assert texts(await collect(events, 1)) == ["while away"]


async def test_a_stream_that_is_left_and_joined_again_goes_on_behind_what_was_processed() -> None:
    async with behind_proxy() as (server, proxy), client_of(server, proxy.port) as client:
        await server.append("group/ops", "a", "b")
        async with client.events("group/ops", first="start") as events:
            assert texts(await collect(events, 1)) == ["a"]
        async with client.events("group/ops", first="start") as events:
            assert texts(await collect(events, 1)) == ["b"]


async def test_each_event_comes_once_though_every_connection_is_cut_after_some_bytes() -> None:
    async with behind_proxy() as (server, proxy):
        names = [f"event {n}" for n in range(300)]
        await server.append(STREAM, *names)
        proxy.cut_after_bytes = 6000
        async with (
            client_of(server, proxy.port, window=32) as client,
            client.events(STREAM, "start") as events,
        ):
            assert texts(await collect(events, 300)) == names
        assert proxy.accepted > 3


async def test_a_silent_connection_is_noticed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "ANSWER_WITHIN_S", 0.1)

    async with (
        behind_proxy(settings=TransportSettings(heartbeat_s=0.2)) as (server, proxy),
        client_of(server, proxy.port) as client,
        client.events(STREAM, "start") as events,
    ):
        heard = Heard(client)
        await events.ready()
        proxy.blackhole()
        await server.append(STREAM, "into the void")
        await heard.wait(Offline)
        proxy.heal()
        assert texts(await collect(events, 1)) == ["into the void"]


async def test_after_a_restart_of_the_server_the_client_goes_on() -> None:
    disk = ModelDisk()
    async with behind_proxy(disk=disk) as (server, proxy):
        client = client_of(server, proxy.port)
        async with client, client.events(STREAM, "start") as events:
            await server.append(STREAM, "a")
            seen = await collect(events, 1)
            proxy.refuse()
            proxy.cut()
            await server.log.close()
            async with world(disk=disk, ambient=server.ambient) as again:
                await again.append(STREAM, "b")
                proxy.redirect(again.port)
                proxy.heal()
                seen += await collect(events, 1)
        assert texts(seen) == ["a", "b"]


async def test_another_log_is_told_by_a_snapshot_that_says_reset() -> None:
    async with behind_proxy() as (server, proxy), world() as other:
        await server.append(STREAM, "a", "b")
        await other.append(STREAM, "x")
        async with (
            client_of(server, proxy.port, token=server.token()) as client,
            client.events(STREAM, "start") as events,
        ):
            await collect(events, 2)
            proxy.redirect(other.port)
            proxy.cut()
            [event] = await collect(events, 1)
            assert (event.type, event.seq) == ("snapshot", 1)
            assert event.data == {"type": "snapshot", "state": {"emails": []}, "outcome": "reset"}
            assert client.snapshots[STREAM].state == {"emails": []}
            await other.append(STREAM, "y")
            assert texts(await collect(events, 1)) == ["y"]


async def test_a_snapshot_comes_first_if_it_is_asked_for() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        await server.append(STREAM, "a")
        async with client.events(STREAM, "snapshot") as events:
            await events.ready()
            await server.append(STREAM, "b")
            [snapshot, event] = await collect(events, 2)
        assert snapshot.type == "snapshot"
        assert event.seq == snapshot.seq + 1


async def test_a_slow_consumer_holds_a_window_and_no_more() -> None:
    async with behind_proxy() as (server, _), client_of(server, window=16) as client:
        heard = Heard(client)
        async with client.events(STREAM, "start") as events:
            await events.ready()
            await server.append(STREAM, *[str(n) for n in range(100)])
            (connection,) = server.connections
            await until(lambda: connection.session.delivery.window.outstanding == 16)
            server.tick(1)
            lag = await heard.wait(Lag)
            assert (lag.stream, lag.behind) == (STREAM, 84)
            assert connection.session.delivery.window.outstanding == 16
            assert texts(await collect(events, 100)) == [str(n) for n in range(100)]


async def test_a_consumer_that_simply_stops_iterating_does_not_hold_the_window_of_others() -> None:
    async with behind_proxy() as (server, _), client_of(server, window=8) as client:
        await server.append(STREAM, *[str(n) for n in range(50)])
        async for event in client.events(STREAM, "start"):
            if event.seq == 2:
                break
        async with client.events("system", "start") as system:
            await server.append("system", *[str(n) for n in range(20)])
            assert len(await collect(system, 20)) == 20


async def test_a_second_run_with_the_same_file_goes_on_behind_what_was_processed(tmp_path: Path) -> None:
    store = FileCursors(tmp_path / "cursors.json")
    async with behind_proxy() as (server, _):
        await server.append(STREAM, "a", "b", "c")
        async with client_of(server, cursors=store) as client, client.events(STREAM, "start") as events:
            await collect(events, 3)
        await server.append(STREAM, "d")
        again = FileCursors(tmp_path / "cursors.json")
        async with client_of(server, cursors=again) as client, client.events(STREAM) as events:
            assert texts(await collect(events, 1)) == ["d"]


async def test_what_was_in_work_when_it_failed_comes_again(tmp_path: Path) -> None:
    async def work(server: World, seen: list[str]) -> None:
        store = FileCursors(tmp_path / "cursors.json")
        async with client_of(server, cursors=store) as client, client.events(STREAM, first="start") as events:
            async for event in events:
                seen.append(event.data["text"])
                if len(seen) == 2:
                    raise RuntimeError("in the middle of the work")
                if event.seq == 3:
                    return

    async with behind_proxy() as (server, _):
        await server.append(STREAM, "a", "b", "c")
        seen: list[str] = []
        with pytest.raises(RuntimeError):
            await work(server, seen)
        await work(server, seen)
        assert seen == ["a", "b", "b", "c"]


async def test_batches_are_runs_without_a_gap() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        await server.append(STREAM, *[str(n) for n in range(100)])
        async with client.batches(STREAM, "start") as batches:
            seqs: list[int] = []
            async for batch in batches:
                assert isinstance(batch, Batch)
                seqs += [event.seq for event in batch]
                if batch.last == 100:
                    break
        assert seqs == list(range(1, 101))


async def test_what_happens_to_the_connection_is_told() -> None:
    async with behind_proxy() as (server, proxy):
        client = client_of(server, proxy.port)
        heard = Heard(client)
        async with client, client.events(STREAM, "start"):
            await heard.wait(Live, where=lambda live: live.stream == STREAM)
            proxy.cut()
            await heard.wait(Online, 2)
            await heard.wait(Outcome, 2, where=lambda told: told.stream == STREAM)
        assert [told.outcome for told in heard.of(Outcome) if told.stream == STREAM] == ["resumed"] * 2
        assert isinstance(heard.all[0], Connecting)
        assert isinstance(heard.all[-1], Stopped)


async def test_a_connection_that_fails_in_a_way_that_nobody_foresaw_is_lost_and_the_client_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receive, failures = Receiver.receive, [RuntimeError("never seen before")]

    async def unforeseen(receiver: Receiver, socket: Any, place: Any) -> str | bytes:
        raw = await receive(receiver, socket, place)
        if failures and "noted" in str(raw):
            raise failures.pop()
        return raw

    monkeypatch.setattr(Receiver, "receive", unforeseen)
    loop, told = asyncio.get_running_loop(), list[dict[str, Any]]()
    monkeypatch.setattr(loop, "call_exception_handler", told.append)
    async with world() as server, client_of(server, compression=False) as client:
        heard = Heard(client)
        async with client.events(STREAM, "start") as events:
            await server.append(STREAM, "a", "b")
            assert texts(await collect(events, 2)) == ["a", "b"]
        problem = await heard.wait(Problem)
        assert (problem.code, problem.message) == ("connection_failed", "RuntimeError: never seen before")
        assert [str(one["exception"]) for one in told] == ["never seen before"], "with its traceback"
        assert failures == []
