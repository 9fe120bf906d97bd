"""The end of a runtime and its actors: what was sent is handled, and those who wait hear of it."""

import asyncio
import gc
import threading
import weakref
from typing import Any

import pykka
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
from huahuo.testing.world import run_virtual
from tests.support.worlds.actors import Gated, Recorder, actor_of, in_world, settled, until
from tests.support.worlds.scenario import scenario


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


def test_runtime_stop_lets_actors_handle_what_was_sent() -> None:
    async def play(runtime: Runtime) -> list[str]:
        order: list[str] = []
        runtime.start(Named, "it", order).tell("works")
        assert await runtime.stop()
        return order

    assert in_world(play) == ["it works", "it stops"]


def test_runtime_stop_ends_idle_actors_the_last_started_first() -> None:
    async def play(runtime: Runtime) -> list[str]:
        order: list[str] = []
        for name in ("first", "second", "third"):
            runtime.start(Named, name, order)
        await settled(runtime)
        await runtime.stop()
        return order

    assert in_world(play) == ["third stops", "second stops", "first stops"]


@scenario(in_world)
async def test_runtime_stop_cancels_a_handler_that_outlives_the_deadline(runtime: Runtime) -> None:
    ref = runtime.start(Gated, asyncio.Event())
    answer = ref.ask("in hand", block=False)
    waiting = ref.ask("waits", block=False)
    began_s = runtime.loop.time()
    assert not await runtime.stop(timeout_s=5)
    assert runtime.loop.time() - began_s == pytest.approx(5)
    assert runtime.alive == 0
    assert ref.actor_inbox.reason is Reason.STOPPED
    with pytest.raises(HandlerCancelled):
        await answer
    with pytest.raises(ActorDeadError):
        await waiting


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
