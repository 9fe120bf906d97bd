"""The gate's bounds: who is told `busy`, what is kept in memory, and how it drains."""

import asyncio
import contextlib
from typing import Any

import pytest
from structlog.testing import capture_logs

from huahuo.actors.plugins.calls import BUSY_RETRY_S, Call, Reply
from huahuo.transport.commands.gate import FEW
from tests.support.worlds.gates import DONE, Handler, Held, spec, world
from tests.support.worlds.people import ALICE, ROOT
from tests.support.worlds.services import body, call


async def test_a_caller_that_goes_away_does_not_cancel_its_command() -> None:
    w = await world()
    begun, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(_: Call[Any]) -> Reply:
        begun.set()
        await go.wait()
        ended.set()
        return DONE

    caller = asyncio.create_task(w.gate.execute(call(id="c1"), spec(Handler(slow))))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    again = asyncio.create_task(w.gate.execute(call(id="c1"), spec(Handler(slow))))
    await asyncio.sleep(0)
    go.set()
    await ended.wait()
    assert (await again).duplicate


async def test_more_commands_than_the_bound_are_told_busy_and_may_come_back() -> None:
    w = await world(running_max=1)
    go = asyncio.Event()

    async def slow(_: Call[Any]) -> Reply:
        await go.wait()
        return DONE

    first = asyncio.create_task(w.gate.execute(call(id="c1"), spec(Handler(slow))))
    await asyncio.sleep(0)
    assert w.gate.running == 1
    refused = await w.gate.execute(call(id="c2"), spec(Handler(DONE)))
    assert (body(refused.body)["code"], body(refused.body)["retry_s"]) == ("busy", 1.0)
    go.set()
    await first
    assert (await w.gate.execute(call(id="c2"), spec(Handler(DONE)))) == DONE


async def test_a_user_with_its_part_of_all_commands_has_no_room_for_the_next_message() -> None:
    w, held = await world(running_max=4 * FEW), Held()
    few = [asyncio.create_task(w.gate.execute(call(principal=ROOT), spec(held))) for _ in range(FEW - 1)]
    await held.begun.wait()
    assert w.gate.has_room(ROOT.name)
    many = [asyncio.create_task(w.gate.execute(call(principal=ALICE), spec(held))) for _ in range(FEW)]
    await asyncio.sleep(0)
    assert (w.gate.has_room(ROOT.name), w.gate.has_room(ALICE.name)) == (True, False)
    held.go.set()
    await asyncio.gather(*few, *many)
    assert w.gate.has_room(ALICE.name)


async def test_more_queries_than_the_bound_are_told_busy() -> None:
    w = await world(running_max=1)
    go = asyncio.Event()

    async def slow(_: Call[Any]) -> Reply:
        await go.wait()
        return DONE

    first = asyncio.create_task(w.gate.execute(call(), spec(Handler(slow), query=True)))
    await asyncio.sleep(0)
    assert w.gate.running == 1
    refused = body((await w.gate.execute(call(), spec(Handler(DONE), query=True))).body)
    assert (refused["code"], refused["retry_s"]) == ("busy", BUSY_RETRY_S)
    go.set()
    await first
    assert w.gate.running == 0


async def test_nothing_is_remembered_in_memory_of_commands_that_ended() -> None:
    w = await world()
    for n in range(20):
        await w.gate.execute(call(id=f"c{n}"), spec(Handler(DONE)))
    await asyncio.sleep(0)
    assert w.gate.running == 0
    assert w.gate.remembered == 0


async def test_draining_waits_for_what_runs() -> None:
    w = await world()
    go = asyncio.Event()

    async def slow(_: Call[Any]) -> Reply:
        await go.wait()
        return DONE

    first = asyncio.create_task(w.gate.execute(call(), spec(Handler(slow))))
    await asyncio.sleep(0)
    draining = asyncio.create_task(w.gate.drain(timeout_s=5))
    await asyncio.sleep(0)
    assert not draining.done()
    go.set()
    await draining
    assert await first == DONE


async def test_draining_has_a_deadline() -> None:
    w = await world()

    async def endless(_: Call[Any]) -> Reply:
        await asyncio.get_running_loop().create_future()
        return DONE

    first = asyncio.create_task(w.gate.execute(call(), spec(Handler(endless))))
    await asyncio.sleep(0)
    await w.gate.drain(timeout_s=0.01)
    with pytest.raises(asyncio.CancelledError):
        await first
    await w.gate.drain(timeout_s=0)


async def test_a_handler_that_heeds_no_cancel_cannot_hold_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huahuo.transport.commands.gate.CANCEL_TIMEOUT_S", 0.01)

    w = await world()
    ends = asyncio.Event()

    async def stuck(_: Call[Any]) -> Reply:
        while not ends.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await ends.wait()
        return DONE

    first = asyncio.create_task(w.gate.execute(call(), spec(Handler(stuck))))
    await asyncio.sleep(0)
    with capture_logs() as logs:
        await w.gate.drain(timeout_s=0)
    assert [entry["event"] for entry in logs] == ["commands_left_behind"]
    assert not first.done()
    ends.set()
    await first
