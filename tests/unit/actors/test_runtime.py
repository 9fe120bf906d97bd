"""The runtime: one message at a time, order per sender, fair turns, a clean end."""

import asyncio
import gc
import threading
import weakref
from typing import Any

import pykka
import pytest

from huahuo.actors import (
    ActorDeadError,
    AskTimeout,
    HandlerCancelled,
    LoopActor,
    LoopRef,
    Runtime,
    ask,
)
from huahuo.testing.world import DeadlockError, run_virtual
from tests.support.patience import WITHIN_S
from tests.support.worlds.actors import Gated, Recorder, actor_of, in_world, settled, until
from tests.support.worlds.scenario import scenario


@scenario(in_world)
async def test_on_start_comes_before_the_first_message_even_when_it_suspends(runtime: Runtime) -> None:
    class Starting(Recorder):
        async def on_start(self) -> None:  # type: ignore[override]  # the runtime awaits it
            await asyncio.sleep(60)
            self.seen.append("started")

    ref = runtime.start(Starting)
    ref.tell("first")
    await ask(ref, "second", timeout_s=100)
    assert actor_of(ref).seen == ["started", "first", "second"]


@pytest.mark.parametrize("eager", [False, True])
@scenario(in_world)
async def test_an_async_handler_answers_under_either_task_factory(runtime: Runtime, *, eager: bool) -> None:
    if eager:
        runtime.loop.set_task_factory(asyncio.eager_task_factory)
    gate = asyncio.Event()
    gate.set()
    ref = runtime.start(Gated, gate)
    answers = [await ask(ref, number) for number in range(100)]
    assert ref.actor_inbox.task is None  # an idle actor keeps no finished task alive
    assert answers == list(range(100))


@scenario(in_world)
async def test_blocking_calls_on_a_loop_are_refused_before_anything_is_sent(runtime: Runtime) -> None:
    ref = runtime.start(Recorder)
    for blocking in (lambda: ref.ask("never"), ref.stop, ref.actor_stopped.wait):
        with pytest.raises(RuntimeError, match="would deadlock"):
            blocking()
    await ask(ref, "end")
    assert actor_of(ref).seen == ["end"]


@scenario(in_world)
async def test_a_cancelled_handler_hurts_only_itself(runtime: Runtime) -> None:
    class Cancelled(LoopActor):
        async def on_receive(self, message: Any) -> None:
            raise asyncio.CancelledError

    other = runtime.start(Recorder)
    ref = runtime.start(Cancelled)
    with pytest.raises(HandlerCancelled):
        await ask(ref, 1)
    assert ref.is_alive()
    ref.tell(1)
    await asyncio.sleep(1)
    assert not ref.is_alive()
    assert await ask(other, "well") == "well"


@scenario(in_world)
async def test_a_timeout_inside_the_handler_is_told_from_the_askers_own(runtime: Runtime) -> None:
    class Impatient(LoopActor):
        def on_receive(self, message: Any) -> None:
            raise TimeoutError("inner")

    with pytest.raises(TimeoutError, match="inner") as inner:
        await ask(runtime.start(Impatient), 1)
    assert not isinstance(inner.value, AskTimeout)


def test_actors_that_await_each_other_are_a_deadlock_that_the_virtual_loop_reports() -> None:
    class Peer(LoopActor):
        peer: LoopRef["Peer"]

        async def on_receive(self, message: Any) -> Any:
            await asyncio.sleep(1)
            return await self.peer.ask(message, block=False)

    async def main() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        a, b = runtime.start(Peer), runtime.start(Peer)
        actor_of(a).peer, actor_of(b).peer = b, a
        try:
            await asyncio.gather(a.ask(1, block=False), b.ask(1, block=False))
        except asyncio.CancelledError:
            await runtime.stop(timeout_s=1)
            raise

    with pytest.raises(DeadlockError):
        run_virtual(main())


def test_a_runtime_of_its_own_thread_serves_threads_and_ends() -> None:
    runtime = Runtime()
    ref = runtime.start(Recorder)
    assert ref.ask("from a thread", timeout=WITHIN_S) == "from a thread"
    runtime.close()
    assert not ref.is_alive()
    assert runtime.loop.is_closed()
    with pytest.raises(RuntimeError, match="closed"):
        runtime.start(Recorder)


def test_a_class_without_a_runtime_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"use runtime.start\(Recorder\)"):
        Recorder.start()


def test_an_unexpected_message_is_logged_by_its_type_only(caplog: pytest.LogCaptureFixture) -> None:
    async def play(runtime: Runtime) -> None:
        await ask(runtime.start(LoopActor), "a secret")

    in_world(play)
    assert "Unexpected message received by LoopActor" in caplog.text
    assert "a secret" not in caplog.text


@scenario(in_world)
async def test_an_actor_has_its_name_from_the_first_time_it_is_read(runtime: Runtime) -> None:
    class Named(LoopActor):
        def __init__(self) -> None:
            super().__init__()
            self.own = self.actor_urn  # before it is registered

    quiet, named = runtime.start(Recorder), runtime.start(Named)
    await settled(runtime)
    find = pykka.ActorRegistry.get_by_urn
    assert quiet.actor_inbox.urn is None
    assert find(named.actor_urn) is named
    assert find("urn:uuid:nobody's") is None
    urn = quiet.actor_urn
    assert actor_of(named).own == named.actor_urn
    assert actor_of(quiet).actor_urn == quiet.actor_urn == urn
    assert find(urn) is quiet
    assert quiet.stop_if_idle()
    assert (find(urn), quiet.actor_urn) == (None, urn)


def test_an_actor_whose_loop_is_closed_is_as_good_as_dead() -> None:
    async def main() -> LoopRef[Recorder]:
        return Runtime(asyncio.get_running_loop()).start(Recorder)

    ref = run_virtual(main())
    with pytest.raises(ActorDeadError):
        ref.tell(1)
    assert not ref.stop()
    pykka.ActorRegistry.unregister(ref)


@scenario(in_world)
async def test_a_stopped_actor_is_garbage(runtime: Runtime) -> None:
    ref = runtime.start(Recorder)
    await ask(ref, 1)
    weak = weakref.ref(actor_of(ref))
    gc.collect()
    assert weak() is not None  # alive without anyone but its inbox to hold it
    await ref.stop(block=False)
    await settled(runtime)
    gc.collect()
    assert weak() is None


class Named(LoopActor):
    def __init__(self, name: str, order: list[str]) -> None:
        super().__init__()
        self.name, self.order = name, order

    def on_receive(self, message: str) -> None:
        self.order.append(f"{self.name} {message}")

    def on_stop(self) -> None:
        self.order.append(f"{self.name} stops")


def test_a_handler_that_was_told_is_cancelled_by_the_end_without_counting_as_a_failure() -> None:
    class Delicate(Gated):
        def on_failure(self, *_: Any) -> None:
            failures.append("on_failure")

    failures: list[str] = []

    async def play(runtime: Runtime) -> None:
        runtime.start(Delicate, asyncio.Event()).tell("in hand")
        assert not await runtime.stop(timeout_s=5)

    in_world(play)
    assert failures == []


def test_runtime_stop_belongs_on_its_own_loop() -> None:
    async def main(runtime: Runtime) -> None:
        with pytest.raises(RuntimeError, match="own loop"):
            await runtime.stop()

    runtime = Runtime()
    run_virtual(main(runtime))
    runtime.close()


@scenario(in_world)
async def test_an_exception_that_is_none_stops_all_actors_as_in_pykka(runtime: Runtime) -> None:
    class Exiting(LoopActor):
        def on_receive(self, message: Any) -> None:
            raise SystemExit

    other = runtime.start(Recorder)
    with pytest.raises(ActorDeadError, match="SystemExit"):
        await ask(runtime.start(Exiting), 1)
    await asyncio.sleep(1)
    assert not other.is_alive()
    assert runtime.alive == 0


async def test_a_thread_that_waits_for_the_end_is_woken_by_it_and_not_before() -> None:
    runtime = Runtime(asyncio.get_running_loop())
    ref = runtime.start(Recorder)
    await settled(runtime)
    assert not await asyncio.to_thread(ref.actor_stopped.wait, 0)
    waiting = asyncio.create_task(asyncio.to_thread(ref.actor_stopped.wait, 60))
    await until(lambda: isinstance(ref.actor_inbox.stopped, threading.Event))
    assert ref.is_alive()
    assert ref.stop_if_idle()
    assert await waiting
    assert await asyncio.to_thread(ref.actor_stopped.wait)
    await runtime.stop()
