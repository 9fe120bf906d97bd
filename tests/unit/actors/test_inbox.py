"""The inbox: a bound on messages of users, first in first out, and no message is lost."""

import asyncio
import threading
from typing import Any

import pytest

from huahuo.actors import ActorDeadError, AskTimeout, LoopRef, Runtime, ask
from tests.support.worlds.actors import Gated, Recorder, actor_of, in_world, settled, until
from tests.support.worlds.scenario import scenario


async def filled(runtime: Runtime, gate: asyncio.Event) -> LoopRef[Gated]:
    """A gated actor that is busy with message 0 and has 1 to 4 in its inbox of four."""
    ref = runtime.start(Gated, gate)
    ref.tell(0)
    await settled(runtime)
    for message in range(1, 5):
        ref.tell(message)
    return ref


@scenario(in_world)
async def test_senders_that_wait_hear_of_the_actors_death(runtime: Runtime) -> None:
    ref = await filled(runtime, gate := asyncio.Event())
    sender = asyncio.create_task(ref.tell_async("late"))
    asker = asyncio.create_task(ask(ref, "late"))
    await asyncio.sleep(0)
    ref.stop_now()
    gate.set()
    for task in (sender, asker):
        with pytest.raises(ActorDeadError):
            await task


@scenario(in_world)
async def test_an_ask_that_found_no_room_in_time_is_never_handled(runtime: Runtime) -> None:
    ref = await filled(runtime, gate := asyncio.Event())
    with pytest.raises(AskTimeout, match=r"did not answer within 3 s"):
        await ask(ref, "late", timeout_s=3)
    gate.set()
    seen = actor_of(ref).seen
    await ask(ref, "end")
    assert seen == [0, 1, 2, 3, 4, "end"]


async def test_a_blocked_thread_hears_of_the_actors_death() -> None:
    runtime = Runtime(asyncio.get_running_loop())
    gate = asyncio.Event()
    ref = runtime.start(Gated, gate)
    ends: list[str] = []

    def send() -> None:
        try:
            for message in range(50):
                ref.tell(message)
        except ActorDeadError:
            ends.append("ActorDeadError")

    thread = threading.Thread(target=send)
    thread.start()
    await until(lambda: ref.actor_inbox.waiting is not None)
    ref.stop_now()
    gate.set()
    await until(lambda: not thread.is_alive())
    assert ends == ["ActorDeadError"]


@scenario(in_world)
async def test_only_the_last_dead_letters_are_kept(runtime: Runtime) -> None:
    for _ in range(10):
        ref = await filled(runtime, gate := asyncio.Event())
        ref.stop_now()
        gate.set()
        await asyncio.sleep(1)
    assert runtime.dead_letters == 40
    assert len(runtime.recent_dead_letters) == 16


@scenario(in_world)
async def test_stop_if_idle_runs_on_stop_sync_or_async(runtime: Runtime) -> None:
    ended: list[str] = []

    class Sync(Recorder):
        def on_stop(self) -> None:
            ended.append("sync")

    class Async(Recorder):
        async def on_stop(self) -> None:  # type: ignore[override]  # the runtime awaits it
            await asyncio.sleep(1)
            ended.append("async")

    refs: list[LoopRef[Any]] = [runtime.start(Sync), runtime.start(Async)]
    await settled(runtime)
    assert all(ref.stop_if_idle() for ref in refs)
    assert ended == ["sync"]
    await asyncio.sleep(2)
    assert ended == ["sync", "async"]


def test_stop_if_idle_belongs_on_the_actors_own_loop() -> None:
    ref: LoopRef[Recorder] = in_world(_started)
    with pytest.raises(RuntimeError, match="own loop"):
        ref.stop_if_idle()


async def _started(runtime: Runtime) -> LoopRef[Recorder]:
    return runtime.start(Recorder)
