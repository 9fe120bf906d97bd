"""Who watches an actor hears of its end, whatever else happens."""

import asyncio
from typing import Any

import pytest

from huahuo.actors import (
    Reason,
    Runtime,
    Terminated,
)
from tests.support.worlds.actors import Recorder, actor_of, in_world, settled
from tests.support.worlds.fragile import Child, watched

pytestmark = pytest.mark.virtual_time


def test_a_watcher_receives_terminated_with_ref_and_reason() -> None:
    async def play(runtime: Runtime) -> None:
        watcher = runtime.start(Recorder)
        seen = actor_of(watcher).seen
        stopped, failed, idle = runtime.start(Recorder), runtime.start(Child, []), runtime.start(Recorder)
        for ref in (stopped, failed, idle):
            ref.watch(watcher)
        await settled(runtime)
        await stopped.stop(block=False)
        failed.tell("boom")
        await asyncio.sleep(1)
        assert idle.stop_if_idle()
        await settled(runtime)
        assert seen == [
            Terminated(stopped, Reason.STOPPED),
            Terminated(failed, Reason.FAILED),
            Terminated(idle, Reason.IDLE),
        ]

    in_world(play)


def test_watching_the_dead_tells_at_once() -> None:
    async def play(runtime: Runtime) -> None:
        watcher, dead = runtime.start(Recorder), runtime.start(Recorder)
        seen = actor_of(watcher).seen
        await dead.stop(block=False)
        await settled(runtime)
        dead.watch(watcher)
        await settled(runtime)
        assert seen == [Terminated(dead, Reason.STOPPED)]
        assert watched(dead) == [Reason.STOPPED]

    in_world(play)


def test_terminated_finds_room_in_a_full_inbox() -> None:
    class Narrow(Recorder):
        inbox_limit = 1

    async def play(runtime: Runtime) -> list[Any]:
        watcher, mortal = runtime.start(Narrow), runtime.start(Recorder)
        await settled(runtime)
        mortal.watch(watcher)
        watcher.tell("full")
        assert mortal.stop_if_idle()
        await settled(runtime)
        return [type(message).__name__ for message in actor_of(watcher).seen]

    assert in_world(play) == ["str", "Terminated"]


def test_unwatch_takes_a_watch_back() -> None:
    async def play(runtime: Runtime) -> list[Any]:
        watcher, mortal = runtime.start(Recorder), runtime.start(Recorder)
        await settled(runtime)
        mortal.watch(watcher)
        mortal.unwatch(watcher)
        assert mortal.stop_if_idle()
        await settled(runtime)
        return actor_of(watcher).seen

    assert in_world(play) == []


def test_watches_leave_nothing_behind_for_the_dead_on_either_side() -> None:
    async def play(runtime: Runtime) -> None:
        constant = runtime.start(Recorder)
        await settled(runtime)
        for _ in range(5):
            passing = runtime.start(Recorder)
            await settled(runtime)
            constant.watch(passing)
            passing.watch(constant)
            assert passing.stop_if_idle()
            await settled(runtime)
        extras = constant.actor_inbox.extras
        assert (extras.watchers, extras.watching) == ({}, {})

    in_world(play)


def test_one_watchers_exception_is_not_the_next_ones() -> None:
    async def play(runtime: Runtime) -> None:
        def fails(_end: Terminated) -> None:
            raise RuntimeError("in the watch")

        ref = runtime.start(Recorder)
        ref.on_terminated(fails)
        reasons = watched(ref)
        await ref.stop(block=False)
        await settled(runtime)
        assert reasons == [Reason.STOPPED]

    in_world(play)
