"""The runtime: one message at a time, order per sender, fair turns, a clean end."""

import asyncio
from typing import Any

import pykka
import pytest

from huahuo.actors import (
    ActorDeadError,
    AskTimeout,
    LoopActor,
    LoopRef,
    Runtime,
    ask,
)
from huahuo.testing.world import DeadlockError, run_virtual
from tests.support.patience import WITHIN_S
from tests.support.worlds.actors import Recorder, actor_of, in_world
from tests.support.worlds.scenario import scenario


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


def test_an_actor_whose_loop_is_closed_is_as_good_as_dead() -> None:
    async def main() -> LoopRef[Recorder]:
        return Runtime(asyncio.get_running_loop()).start(Recorder)

    ref = run_virtual(main())
    with pytest.raises(ActorDeadError):
        ref.tell(1)
    assert not ref.stop()
    pykka.ActorRegistry.unregister(ref)


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
