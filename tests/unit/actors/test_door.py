"""The ways past an actor's queue: handled in the caller's call, and urgent messages while a handler waits."""

import asyncio
import threading
from typing import Any

import pytest

from huahuo.actors import (
    ActorDeadError,
    HandlerCancelled,
    LoopActor,
    LoopRef,
    Reason,
    Runtime,
    ask,
)
from tests.support.worlds.actors import in_world, settled, until
from tests.support.worlds.scenario import scenario


class Desk(LoopActor):
    """Notes what it handles. "wait" suspends its handler until `gate` opens; "boom" fails."""

    inbox_limit = 8

    def __init__(self, seen: list[Any], gate: asyncio.Event | None = None) -> None:
        super().__init__()
        self.seen = seen
        self.gate = gate or asyncio.Event()

    def on_receive(self, message: Any) -> Any:
        if message == "wait":
            return self._wait()
        if callable(message):
            message()
        if message == "boom":
            raise ValueError("a secret")
        self.seen.append(message)
        return message

    async def _wait(self) -> str:
        self.seen.append("suspended")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        self.seen.append("resumed")
        return "waited"

    def on_urgent(self, message: Any) -> Any:
        if callable(message):
            message()
        if message == "boom":
            raise ValueError("a secret")
        self.seen.append(f"urgent {message}")
        return message

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.seen.append(f"failed with {exception_type.__name__}")


class Unbounded(Desk):
    """Takes any number of messages."""

    inbox_limit = 0


async def idle(runtime: Runtime, actor_class: type[Desk] = Desk) -> tuple[LoopRef[Desk], list[Any]]:
    seen: list[Any] = []
    ref: LoopRef[Desk] = runtime.start(actor_class, seen)
    await settled(runtime)
    seen.clear()
    return ref, seen


async def suspended(runtime: Runtime, actor_class: type[Desk] = Desk) -> tuple[LoopRef[Desk], list[Any]]:
    """An actor whose handler of "wait" is suspended."""
    ref, seen = await idle(runtime, actor_class)
    ref.tell("wait")
    await until(lambda: seen == ["suspended"])
    return ref, seen


@scenario(in_world)
async def test_a_fault_in_the_senders_call_is_the_actors_failure_and_not_the_senders(
    runtime: Runtime,
) -> None:
    ref, seen = await idle(runtime)
    ref.tell_now("boom")
    await until(lambda: not ref.is_alive())
    with pytest.raises(ActorDeadError):
        ref.tell_now("late")
    assert (seen, ref.actor_inbox.reason) == (["failed with ValueError"], Reason.FAILED)


async def test_another_threads_message_is_queued_and_keeps_its_order() -> None:
    runtime = Runtime(asyncio.get_running_loop())
    seen: list[Any] = []
    ref = runtime.start(Unbounded, seen)

    def send(sender: int) -> None:
        for number in range(500):
            (ref.tell_now if number % 3 else ref.tell)((sender, number))

    threads = [threading.Thread(target=send, args=(sender,)) for sender in (1, 2)]
    for thread in threads:
        thread.start()
    for number in range(500):
        (ref.tell_now if number % 3 else ref.tell)((0, number))
        await asyncio.sleep(0)
    await until(lambda: len(seen) == 1500)
    await runtime.stop()
    for sender in (0, 1, 2):
        assert [number for who, number in seen if who == sender] == list(range(500))


@scenario(in_world)
async def test_a_fault_in_an_urgent_message_cancels_the_suspended_handler_first(runtime: Runtime) -> None:
    ref, seen = await idle(runtime)
    asked = asyncio.ensure_future(ask(ref, "wait"))
    await until(lambda: seen == ["suspended"])
    ref.tell_urgent("boom")
    assert ref.try_urgent("meanwhile", "refused") == "refused"
    with pytest.raises(HandlerCancelled):
        await asked
    await until(lambda: not ref.is_alive())
    assert seen == ["suspended", "cancelled", "failed with ValueError"]


@scenario(in_world)
async def test_a_handler_that_ends_well_although_it_was_cancelled_is_answered_and_the_actor_fails(
    runtime: Runtime,
) -> None:
    class Stubborn(Desk):
        async def _wait(self) -> str:
            try:
                return await super()._wait()
            except asyncio.CancelledError:
                return "done all the same"

    ref, seen = await idle(runtime, Stubborn)
    asked = asyncio.ensure_future(ask(ref, "wait"))
    await until(lambda: seen == ["suspended"])
    ref.tell_urgent("boom")
    answer = await asked
    await until(lambda: not ref.is_alive())
    assert (answer, seen) == ("done all the same", ["suspended", "cancelled", "failed with ValueError"])


@scenario(in_world)
async def test_an_async_on_urgent_is_a_fault(runtime: Runtime) -> None:
    class Slow(Desk):
        async def on_urgent(self, message: Any) -> None:
            raise AssertionError

    ref, seen = await idle(runtime, Slow)
    ref.tell_urgent("tick")
    await until(lambda: not ref.is_alive())
    assert seen == ["failed with TypeError"]


async def test_urgent_messages_belong_on_the_actors_loop() -> None:
    runtime = Runtime(asyncio.get_running_loop())
    ref, _ = await idle(runtime)
    with pytest.raises(RuntimeError, match="own loop"):
        await asyncio.to_thread(ref.tell_urgent, "tick")
    await runtime.stop()
