"""Commands: answers, repeats and bounds."""

import asyncio
import contextlib
from typing import Any

import pytest
from structlog.testing import capture_logs

from huahuo.actors.actor.messages import AskTimeout, HandlerCancelled, InboxFull
from huahuo.actors.entities.decider import Busy, Degraded
from huahuo.actors.plugins.actions import NOT_KNOWN, Action
from huahuo.actors.plugins.calls import BUSY_RETRY_S, Call, Refusal, Reply, error_reply
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import (
    Closed,
    CommandMismatch,
    Conflict,
    Corrupt,
    QueueFull,
    TooLarge,
    Unavailable,
)
from huahuo.eventstore.model import Append, CommandRecord, NewEvent
from huahuo.transport.commands.gate import FEW, Gate
from tests.support.models.faulty_log import FaultyLog, faulty_log
from tests.support.worlds.gates import CANARY, DONE, Handler, Held, spec, world
from tests.support.worlds.people import ALICE, ROOT
from tests.support.worlds.services import body, call


async def test_what_another_node_executed_is_waited_for_where_the_action_is_not_known() -> None:
    log = await faulty_log()

    async def settle() -> bool:
        record = CommandRecord(made.key, made.fingerprint, DONE.body) if made.key is not None else None
        await log.append(Append(ts_ms=1, command=record))
        return True

    made = call(id="c1")
    assert (await Gate(log, FakeAmbient(1), settle=settle).execute(made, NOT_KNOWN)).body == DONE.body


async def test_a_node_that_cannot_find_out_does_not_say_that_an_action_is_not_known() -> None:
    async def settle() -> bool:
        return False

    gate = Gate(await faulty_log(), FakeAmbient(1), settle=settle)
    assert body((await gate.execute(call(id="c1"), NOT_KNOWN)).body)["code"] == "unavailable"


async def test_a_repeat_under_way_with_another_content_is_refused() -> None:
    w = await world()
    handler = Held()
    first = asyncio.create_task(w.gate.execute(call({"n": 1}, id="c1"), spec(handler)))
    await handler.begun.wait()
    other = await w.gate.execute(call({"n": 2}, id="c1"), spec(Handler(DONE)))
    assert body(other.body)["code"] == "invalid_field"
    handler.go.set()
    assert await first == DONE


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Unavailable(CANARY), "unavailable"),
        (Closed(CANARY), "unavailable"),
        (Corrupt("stream user/1", CANARY), "corrupt"),
        (Degraded(CANARY), "unavailable"),
        (HandlerCancelled(CANARY), "unavailable"),
        (CommandMismatch(CANARY), "invalid_field"),
        (TimeoutError(CANARY), "busy"),
        (AskTimeout(CANARY, 1.0), "busy"),
        (Busy(CANARY), "busy"),
        (InboxFull(CANARY, 1), "busy"),
        (Conflict(CANARY, 1, 2), "busy"),
        (QueueFull(CANARY), "busy"),
        (TooLarge(CANARY), "too_large"),
        (RuntimeError(CANARY), "internal"),
        (KeyError(CANARY), "internal"),
    ],
)
@pytest.mark.parametrize("query", [True, False])
async def test_each_fault_becomes_its_code_and_its_text_stays_here(
    fault: Exception, code: str, query: bool
) -> None:
    w = await world()
    with capture_logs():
        reply = await w.gate.execute(call(id="c1"), spec(Handler(fault), query=query))
    assert body(reply.body)["type"] == "error"
    assert body(reply.body)["code"] == code
    assert CANARY not in reply.body.decode()


async def test_an_internal_error_is_found_in_the_log_by_its_correlation_id() -> None:
    w = await world()
    with capture_logs() as lines:
        reply = await w.gate.execute(call(), spec(Handler(RuntimeError("boom"))))
    (line,) = lines
    assert body(reply.body)["details"] == line["correlation_id"]
    assert len(line["correlation_id"]) == 16
    assert line["log_level"] == "error"


async def test_a_plain_handler_that_raises_is_answered_internal() -> None:
    w = await world()

    def fails(_: Call[Any]) -> Reply:
        raise RuntimeError(CANARY)

    with capture_logs():
        reply = await w.gate.execute(call(id="c1"), Action("act", dict, fails))
    assert body(reply.body)["code"] == "internal"
    assert CANARY.encode() not in reply.body


class Refusing:
    """Refuses until the log has an event of another node, as a decision that needs it does."""

    def __init__(self, log: FaultyLog) -> None:
        self._log = log
        self.executed = 0

    async def __call__(self, made: Call[Any]) -> Reply:
        self.executed += 1
        return DONE if self._log.position else error_reply(Refusal("not_found", "没有"))


async def refused_first(*, written: int, settled: bool) -> tuple[Reply, Refusing, Gate]:
    """A command that is refused on a node that then hears of `written` events of others."""
    log = await faulty_log()
    handler = Refusing(log)

    async def settle() -> bool:
        for _ in range(written):
            await log.append(Append(ts_ms=1, events=(NewEvent("user/42", "noted", b"{}"),)))
        return settled

    gate = Gate(log, FakeAmbient(1), settle=settle)
    return await gate.execute(call(id="c-1"), Action("act", dict, handler)), handler, gate


async def test_a_command_is_not_refused_for_what_another_node_wrote_and_this_one_has_not_seen() -> None:
    reply, handler, _ = await refused_first(written=1, settled=True)
    assert reply.body == DONE.body
    assert handler.executed == 2


async def test_a_refusal_stands_if_nothing_else_was_ordered() -> None:
    reply, handler, _ = await refused_first(written=0, settled=True)
    assert body(reply.body)["code"] == "not_found"
    assert handler.executed == 1


async def test_a_command_that_may_be_refused_by_mistake_can_be_sent_again_with_its_id() -> None:
    reply, handler, gate = await refused_first(written=0, settled=False)
    assert body(reply.body)["code"] == "unavailable"
    await gate.execute(call(id="c-1"), Action("act", dict, handler))
    assert handler.executed == 2, "the refusal was not kept"


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
