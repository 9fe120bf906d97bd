"""Stop and Escalate: who is in charge of a failure, and restarts on request."""

import asyncio
from typing import Any

import pytest

from huahuo.actors import (
    LoopActor,
    LoopRef,
    Reason,
    Restart,
    Runtime,
    Stop,
    ask,
)
from tests.support.worlds.actors import Recorder, in_world, settled
from tests.support.worlds.fragile import Child, Fragile, Once, watched, with_give_up_hook

pytestmark = pytest.mark.virtual_time


def test_stop_is_pykkas_behaviour_and_the_default() -> None:
    class Plain(Fragile):
        supervision = Stop()

    async def play(runtime: Runtime) -> list[Any]:
        log: list[Any] = []
        ref = runtime.start(Plain, log)
        reasons = watched(ref)
        ref.tell("boom")
        ref.tell("left")
        await asyncio.sleep(1)
        assert reasons == [Reason.FAILED]
        assert runtime.dead_letters == 1
        return [*log]

    assert LoopActor.supervision == Stop()
    assert in_world(play) == ["start", "boom", "on_failure"]


def test_an_escalated_failure_is_the_parents_own() -> None:
    async def play(runtime: Runtime) -> list[Any]:
        log: list[Any] = []
        parent = runtime.start(Once, log)
        child = runtime.start_under(parent, Child, [])
        await settled(runtime)
        child.tell("boom")
        await asyncio.sleep(5)
        assert not child.is_alive()
        assert parent.is_alive()
        return [*log]

    assert in_world(play) == ["start", "on_failure", "start"]


def test_a_burst_of_escalated_failures_is_one_restart_of_the_parent() -> None:
    async def play(runtime: Runtime) -> None:
        parent = runtime.start(Once, [])
        children = [runtime.start_under(parent, Child, []) for _ in range(20)]
        await settled(runtime)
        for child in children[:10]:
            child.tell("boom")
        await asyncio.sleep(0.1)  # the parent waits for its restart now
        for child in children[10:]:
            child.tell("boom")
        await asyncio.sleep(5)
        assert parent.is_alive()
        assert runtime.restarts == 1
        assert runtime.queued == 0

    in_world(play)


def test_a_failure_climbs_until_somebody_is_in_charge() -> None:
    async def play(runtime: Runtime, given_up: list[tuple[LoopRef[Any], str]]) -> None:
        top = runtime.start(Child, [])
        middle = runtime.start_under(top, Child, [])
        bottom = runtime.start_under(middle, Child, [])
        await settled(runtime)
        bottom.tell("boom")
        await asyncio.sleep(1)
        assert [ref.is_alive() for ref in (top, middle, bottom)] == [False, False, False]
        assert given_up == [(top, "ValueError, and no parent")]

    assert len(with_give_up_hook(play)) == 1


async def test_a_give_up_hook_that_fails_breaks_nothing() -> None:
    def hook(_ref: LoopRef[Any], _why: str) -> None:
        raise RuntimeError("in the hook")

    runtime = Runtime(asyncio.get_running_loop(), on_give_up=hook)
    runtime.start(Child, []).tell("boom")
    other = runtime.start(Recorder)
    assert await ask(other, "well") == "well"
    assert await runtime.stop()
    assert runtime.alive == 0


def test_a_restart_on_request_comes_before_what_waits_and_is_no_failure() -> None:
    async def play(runtime: Runtime) -> list[Any]:
        log: list[Any] = []
        ref = runtime.start(Fragile, log)
        await ask(ref, "before")
        ref.tell("waits")
        ref.restart()
        await ask(ref, "after")
        return [*log]

    assert in_world(play) == ["start", "before", "on_stop", "start", "waits", "after"]


def test_a_restart_on_request_ends_the_waiting_for_one() -> None:
    async def play(runtime: Runtime) -> float:
        ref = runtime.start(Once, [])
        ref.tell("boom")
        await asyncio.sleep(0.01)
        ref.restart()
        await ask(ref, "next")
        await asyncio.sleep(5)
        assert runtime.restarts == 1
        return 0

    in_world(play)


def test_a_restart_on_request_needs_the_policy() -> None:
    async def play(runtime: Runtime) -> None:
        with pytest.raises(TypeError, match="Recorder is not supervised by Restart"):
            runtime.start(Recorder).restart()

    in_world(play)


def test_stop_now_ends_an_actor_that_waits_for_its_restart() -> None:
    async def play(runtime: Runtime) -> list[Any]:
        log: list[Any] = []
        ref = runtime.start(Once, log)
        reasons = watched(ref)
        ref.tell("boom")
        ref.tell("left")
        await asyncio.sleep(0.01)
        ref.stop_now()
        await asyncio.sleep(5)
        assert reasons == [Reason.STOPPED]
        assert runtime.restarts == 0
        return [*log]

    assert in_world(play) == ["start", "boom", "on_failure"]


def test_runtime_stop_does_not_wait_for_a_back_off() -> None:
    class Patient(Once):
        supervision = Restart(backoff_min_s=30)

    async def play(runtime: Runtime) -> None:
        runtime.start(Patient, []).tell("boom")
        await asyncio.sleep(0.01)
        assert await runtime.stop()
        assert runtime.loop.time() < 1

    in_world(play)


def test_one_actors_failure_changes_no_other() -> None:
    async def play(runtime: Runtime) -> None:
        broken = [runtime.start(Fragile, []) for _ in range(10)]
        sound = [runtime.start(Fragile, []) for _ in range(10)]
        for ref in broken:
            ref.tell("boom")
        for expected in (1, 2, 3):
            for ref in sound:
                assert await ask(ref, "well") == expected

    in_world(play)
