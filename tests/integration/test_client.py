"""The Python client against the real server: commands once, every event once, and when it gives up."""

import asyncio
import contextlib
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from huahuo.eventstore.memory import ModelDisk
from huahuo.transport.client import retry
from huahuo.transport.client.client import Client
from huahuo.transport.client.connection import SUBPROTOCOL, Receiver
from huahuo.transport.client.cursors import FileCursors
from huahuo.transport.client.model import (
    Batch,
    ClientStopped,
    CommandError,
    Connecting,
    Lag,
    Live,
    NotSubscribed,
    Offline,
    Online,
    Outcome,
    Problem,
    QueueFull,
    Stopped,
    StreamDenied,
    TokenExpiring,
)
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.clients import STREAM, Heard, behind_proxy, client_of, collect, texts
from tests.support.patience import WITHIN_S
from tests.support.worlds.wire import World, until, world


async def test_a_refusal_is_an_exception_with_its_code() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        with pytest.raises(CommandError) as refused:
            await client.send("note", text="refuse")
        assert refused.value.code == "not_found"


async def test_a_command_is_executed_once_over_a_restart_of_the_server() -> None:
    disk = ModelDisk()
    async with behind_proxy(disk=disk) as (server, proxy), client_of(server, proxy.port) as client:
        server.hold = asyncio.Event()
        waiting = asyncio.create_task(client.send("note", text="once"))
        await until(lambda: server.log.head(STREAM).seq == 1)
        proxy.refuse()
        proxy.cut()
        await server.log.close()
        async with world(disk=disk, ambient=server.ambient) as again:
            proxy.redirect(again.port)
            proxy.heal()
            assert (await waiting)["duplicate"] is True
            assert again.log.head(STREAM).seq == 1


async def test_more_than_the_server_allows_at_once_is_answered_all_the_same() -> None:
    settings = TransportSettings(messages_per_s=20)
    async with (
        behind_proxy(settings=settings) as (server, _),
        client_of(server, messages_per_s=0) as client,
    ):
        sends = [asyncio.create_task(client.send("echo", text=str(n))) for n in range(60)]
        while not all(send.done() for send in sends):
            await asyncio.wait(sends, timeout=0.01)
            server.tick(0.2)  # the server's clock moves only so
        assert [send.result()["text"] for send in sends] == [str(n) for n in range(60)]


async def test_the_queue_of_unanswered_commands_has_a_bound() -> None:
    async with behind_proxy() as (server, proxy):
        proxy.refuse()
        async with client_of(server, proxy.port, commands_max=1) as client:
            waiting = asyncio.create_task(client.send("note", text="one"))
            await asyncio.sleep(0)
            with pytest.raises(QueueFull):
                await client.send("note", text="two")
            proxy.heal()
            await waiting


async def test_a_command_that_was_given_up_leaves_room_for_the_next() -> None:
    async with behind_proxy() as (server, proxy):
        proxy.refuse()
        async with client_of(server, proxy.port, commands_max=1) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await client.send("note", text="given up")
            proxy.heal()
            await client.send("note", text="next")
        assert server.executed == 1


async def test_after_wait_for_the_consumer_has_seen_the_effect() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        seen: list[str] = []

        async def consume() -> None:
            async with client.events(STREAM, "start") as events:
                while True:
                    seen.extend(texts(await collect(events, 1)))

        consumer = asyncio.create_task(consume())
        await asyncio.sleep(0)
        for text in ("a", "b"):
            reply = await client.send("note", text=text)
            await client.wait_for(reply["at"])
            assert seen[-1] == text
        consumer.cancel()


async def test_without_a_consumer_wait_for_means_that_the_event_arrived() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        reply = await client.send("note", text="a")
        await client.wait_for(reply["at"])
        await client.wait_for(None)
        with pytest.raises(NotSubscribed):
            await client.wait_for({"stream": "group/ops", "seq": 1})


async def test_an_id_of_an_earlier_run_brings_its_answer_back() -> None:
    async with behind_proxy() as (server, _):
        async with client_of(server, client="w") as client:
            await client.request("note", {"text": "a"}, command_id="mine-1")
        async with client_of(server, client="w") as client:
            again = await client.request("note", {"text": "a"}, command_id="mine-1")
        assert again["duplicate"] is True
        assert server.log.head(STREAM).seq == 1


async def test_an_id_is_refused_as_long_as_an_earlier_call_has_not_returned() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        stopped = asyncio.create_task(client.request("note", {"text": "a"}, command_id="mine-1"))
        first = asyncio.create_task(client.request("note", {"text": "b"}, command_id="mine-2"))
        await asyncio.sleep(0)
        stopped.cancel()
        for command_id in ("mine-1", "mine-2"):
            with pytest.raises(ValueError, match="waits for its answer already"):
                await client.request("note", {"text": "c"}, command_id=command_id)
        assert (await first)["at"]["stream"] == STREAM
        with pytest.raises(asyncio.CancelledError):
            await stopped
        assert await client.request("note", {"text": "a"}, command_id="mine-1")


async def test_without_a_client_id_each_object_has_command_ids_of_its_own() -> None:
    async with behind_proxy() as (server, _):
        for _ in range(2):
            async with client_of(server) as client:
                assert "duplicate" not in await client.request("note", {"text": "a"}, command_id="mine-1")
        assert server.log.head(STREAM).seq == 2


async def test_whoever_still_waits_when_the_client_closes_is_told() -> None:
    async with behind_proxy() as (server, proxy):
        proxy.refuse()
        async with client_of(server, proxy.port) as client:
            events = client.events(STREAM)
            reading = asyncio.create_task(collect(events, 1))
            sending = asyncio.create_task(client.send("note", text="x"))
            await asyncio.sleep(0)
        for task in (reading, sending):
            with pytest.raises(ClientStopped):
                await task
        with pytest.raises(ClientStopped):
            await client.send("note", text="y")


async def test_a_token_that_the_server_does_not_accept_stops_it() -> None:
    async with behind_proxy() as (server, _), client_of(server, token="nonsense") as client:
        with pytest.raises(ClientStopped) as stopped:
            await client.wait_online()
        assert stopped.value.code == 4500
        assert client.state == "stopped"


async def test_a_newer_connection_of_the_same_installation_stops_the_older() -> None:
    async with behind_proxy() as (server, _), client_of(server, client="dev") as older:
        await older.wait_online()
        async with older.events(STREAM) as events, client_of(server, client="dev") as newer:
            await newer.wait_online()
            with pytest.raises(ClientStopped) as stopped:
                await collect(events, 1)
            assert stopped.value.code == 4009
            assert newer.state == "online"


async def test_a_revoked_user_stops() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        await client.wait_online()
        for connection in server.hub.connections:
            connection.close(CloseCode.REVOKED, "revoked")
        assert (await client.wait_stopped()).code == 4503


async def _live_on(server: World, client: Client, seconds: int) -> None:
    """Let the server's clock run while the client is heard now and then."""
    for _ in range(seconds // 10):
        with contextlib.suppress(ClientStopped):
            await client.send("echo", text="")
        server.tick(10)


async def test_a_token_is_refreshed_in_place_before_it_expires() -> None:
    async with behind_proxy() as (server, proxy):
        # a window of 2: each event is acknowledged at once, however fast the server's clock runs
        client = client_of(server, proxy.port, get_token=lambda: server.token(ttl_s=100), window=2)
        heard = Heard(client)
        async with client, client.events(STREAM, "start") as events:
            await events.ready()
            reading = asyncio.create_task(collect(events, 3))
            await server.append(STREAM, "a")
            await _live_on(server, client, 50)
            await heard.wait(TokenExpiring)
            await client.send("note", text="after the refresh")
            await _live_on(server, client, 60)
            await client.send("note", text="after the first token's end")
            seen = await reading
        assert texts(seen) == ["a", "after the refresh", "after the first token's end"]
        assert proxy.accepted == len(heard.of(Online)) == 1


async def test_an_expired_token_is_replaced_by_a_new_one_on_the_next_connection() -> None:
    async with behind_proxy() as (server, _):
        given = 0

        async def get_token() -> str:
            nonlocal given
            given += 1
            if given == 2:
                raise RuntimeError("the refresh in place does not work")
            return server.token(ttl_s=100)

        client = client_of(server, get_token=get_token)
        heard = Heard(client)
        async with client:
            await client.wait_online()
            await _live_on(server, client, 100)
            await heard.wait(Online, 2)
            assert [offline.code for offline in heard.of(Offline)] == [4003]


async def test_a_token_that_cannot_be_renewed_stops_it_when_it_expires() -> None:
    async with behind_proxy() as (server, _), client_of(server, token=server.token(ttl_s=100)) as client:
        await client.wait_online()
        await _live_on(server, client, 100)
        assert (await client.wait_stopped()).code == 4003


async def test_a_source_that_gives_the_expired_token_again_stops_it() -> None:
    async with behind_proxy() as (server, _):
        token = server.token(ttl_s=100)
        async with client_of(server, get_token=lambda: token) as client:
            await client.wait_online()
            await _live_on(server, client, 100)
            assert (await client.wait_stopped()).code == 4003


async def test_a_source_of_tokens_that_fails_is_asked_again() -> None:
    async with behind_proxy() as (server, _):
        asked = 0

        def get_token() -> str:
            nonlocal asked
            asked += 1
            if asked < 3:
                raise RuntimeError("canary-in-exception")
            return server.token()

        client = client_of(server, get_token=get_token)
        heard = Heard(client)
        async with client:
            await client.wait_online()
        assert len(heard.of(Offline)) == 2
        assert "canary" not in repr(heard.all)


async def test_a_stream_that_may_not_be_read_is_an_exception() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        async with client.events("user/43") as events:
            with pytest.raises(StreamDenied):
                await events.ready()
            with pytest.raises(StreamDenied):
                await collect(events, 1)
        assert (await client.send("note", text="goes on"))["type"] == "success"


async def test_a_server_that_speaks_something_else_stops_it() -> None:
    async def idle(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with asyncio.timeout(WITHIN_S), serve(idle, "127.0.0.1", 0, compression=None) as other:
        port = other.sockets[0].getsockname()[1]
        async with Client(f"ws://127.0.0.1:{port}", token="t") as client:
            assert (await client.wait_stopped()).code == 4506


async def test_a_server_that_talks_nonsense_is_left_and_tried_again() -> None:
    connections = 0

    async def babble(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await socket.send("not JSON")
        await socket.wait_closed()

    subprotocols = [Subprotocol(SUBPROTOCOL)]
    async with (
        asyncio.timeout(WITHIN_S),
        serve(babble, "127.0.0.1", 0, compression=None, subprotocols=subprotocols) as other,
    ):
        port = other.sockets[0].getsockname()[1]
        client = Client(f"127.0.0.1:{port}", token="t", backoff_s=(0.001, 0.002))
        heard = Heard(client)
        async with client:
            await heard.wait(Problem, 2)
        assert connections >= 2


async def test_the_client_comes_back_after_a_drain() -> None:
    async with behind_proxy() as (server, proxy):
        client = client_of(server, proxy.port)
        heard = Heard(client)
        async with client:
            await client.wait_online()
            await server.server.drain(2)
            offline = await heard.wait(Offline)
            assert offline.code == 4000


async def test_neither_token_nor_password_shows_in_anything_that_is_told() -> None:
    async with behind_proxy() as (server, proxy):
        token = server.token()
        client = client_of(server, proxy.port, token=token)
        heard = Heard(client)
        async with client:
            with pytest.raises(CommandError) as refused:
                await client.send("note", text="refuse", password="canary-77")
            proxy.cut()
            await heard.wait(Online, 2)
        told = repr(heard.all) + repr(client) + repr(refused.value)
        assert "canary-77" not in told
        assert token not in told


@pytest.mark.parametrize("url", ["ftp://host", "", "ws://", "https:///"])
def test_an_address_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        Client(url, token="t")


def test_one_source_of_tokens_is_needed() -> None:
    with pytest.raises(ValueError, match="token"):
        Client("h:1")
    with pytest.raises(ValueError, match="token"):
        Client("h:1", token="t", get_token=lambda: "t")


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


class Lines(logging.Handler):
    """Keeps the lines of a logger, and tells when there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.one = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.one.set()


async def test_a_service_that_does_not_run_is_told_with_its_address_and_the_reason() -> None:
    lines = Lines()
    logging.getLogger("huahuo.client").addHandler(lines)
    try:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else gets the port
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            async with asyncio.timeout(WITHIN_S), Client(f"http://{address}", token="x"):
                await lines.one.wait()
    finally:
        logging.getLogger("huahuo.client").removeHandler(lines)
    assert address in lines.texts[0]
    assert "ConnectionRefusedError" in lines.texts[0]
