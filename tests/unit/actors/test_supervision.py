"""Supervision: a failed actor restarts under the same ref, or its end is reported."""

import asyncio
from typing import Any

import pytest
import structlog

from huahuo.actors import (
    ActorDeadError,
    LoopActor,
    Reason,
    Restart,
    Runtime,
    Stop,
    ask,
)
from tests.support.worlds.actors import Recorder, actor_of, in_world
from tests.support.worlds.fragile import Fragile
from tests.support.worlds.scenario import scenario

pytestmark = pytest.mark.virtual_time


@scenario(in_world)
async def test_a_restart_keeps_ref_urn_and_inbox_and_swaps_the_object(runtime: Runtime) -> None:
    log: list[Any] = []
    ref = runtime.start(Fragile, log)
    assert await ask(ref, "before") == 1
    urn, before = ref.actor_urn, actor_of(ref)
    ref.tell("boom")
    ref.tell("waits")
    assert await ask(ref, "after") == 2  # a fresh object counts from the start
    assert actor_of(ref) is not before
    assert actor_of(ref).actor_ref is ref
    assert (ref.actor_urn, actor_of(ref).actor_urn) == (urn, urn)
    assert runtime.restarts == 1
    assert runtime.alive == 1
    assert [*log] == ["start", "before", "boom", "on_failure", "start", "waits", "after"]


@scenario(in_world)
async def test_each_restart_waits_twice_as_long_as_the_last(runtime: Runtime) -> None:
    starts_s: list[float] = []

    class Timed(LoopActor):
        supervision = Restart(jitter=0)

        def on_start(self) -> None:
            starts_s.append(round(runtime.loop.time(), 3))

        def on_receive(self, message: Any) -> None:
            raise ValueError

    ref = runtime.start(Timed)
    for _ in range(4):
        ref.tell("fail")
    await asyncio.sleep(10)
    assert starts_s == [0, 0.2, 0.6, 1.4, 3.0]


@scenario(in_world)
async def test_the_sixth_failure_in_a_minute_is_the_end_and_is_said(runtime: Runtime) -> None:
    ref = runtime.start(Fragile, [])
    for _ in range(5):
        ref.tell("boom")
    await asyncio.sleep(30)
    assert (ref.is_alive(), runtime.restarts) == (True, 5)
    with structlog.testing.capture_logs() as logs:
        ref.tell("boom")
        await asyncio.sleep(1)
    assert ref.actor_inbox.reason is Reason.GAVE_UP
    assert [entry["event"] for entry in logs] == ["actor_failed", "actor_gave_up"]
    assert logs[1]["reason"] == "ValueError, 6 failures in 60 s"
    with pytest.raises(ActorDeadError):
        ref.tell("anything")


@scenario(in_world)
async def test_failures_that_are_far_apart_never_add_up(runtime: Runtime) -> None:
    ref = runtime.start(Fragile, [])
    for _ in range(20):
        ref.tell("boom")
        await asyncio.sleep(30)
    assert ref.is_alive()
    assert runtime.restarts == 20


@scenario(in_world)
async def test_a_message_that_kills_is_a_dead_letter_and_the_rest_goes_on(runtime: Runtime) -> None:
    log: list[Any] = []
    ref = runtime.start(Fragile, log)
    ref.tell("boom")
    await ask(ref, "next")
    assert runtime.dead_letters == 1
    (letter,) = runtime.recent_dead_letters
    assert (letter.actor, letter.message, letter.reason) == ("Fragile", "str", "poison")
    assert [*log] == ["start", "boom", "on_failure", "start", "next"]


@scenario(in_world)
async def test_an_exception_in_an_ask_goes_to_the_asker_and_the_actor_lives_on(runtime: Runtime) -> None:
    log: list[Any] = []
    ref = runtime.start(Fragile, log)
    with pytest.raises(ValueError, match="a secret"):
        await ask(ref, "boom")
    await ask(ref, "next")
    assert [*log] == ["start", "boom", "next"]


def test_an_async_handler_and_async_hooks_are_supervised_alike() -> None:
    log: list[str] = []

    class Async(LoopActor):
        supervision = Restart()

        async def on_start(self) -> None:  # type: ignore[override]  # the runtime awaits it
            await asyncio.sleep(1)
            log.append("start")

        async def on_receive(self, message: str) -> None:
            await asyncio.sleep(1)
            log.append(message)
            if message == "boom":
                raise ValueError

        async def on_failure(self, *_: Any) -> None:  # type: ignore[override]  # the runtime awaits it
            await asyncio.sleep(1)
            log.append("on_failure")

    async def play(runtime: Runtime) -> None:
        ref = runtime.start(Async)
        ref.tell("boom")
        await ask(ref, "next")

    in_world(play)
    assert log == ["start", "boom", "on_failure", "start", "next"]


def test_a_start_that_fails_is_tried_again_and_messages_wait() -> None:
    attempts: list[int] = []

    class Slow(Recorder):
        supervision = Restart()

        def on_start(self) -> None:
            attempts.append(1)
            if len(attempts) < 3:
                raise OSError

    async def play(runtime: Runtime) -> Any:
        ref = runtime.start(Slow)
        return await ask(ref, "waited")

    assert in_world(play) == "waited"
    assert len(attempts) == 3


def test_a_constructor_that_fails_at_a_restart_counts_as_a_failure() -> None:
    builds: list[int] = []

    class Unlucky(Recorder):
        supervision = Restart()

        def __init__(self) -> None:
            super().__init__()
            builds.append(1)
            if len(builds) == 2:
                raise OSError

        def on_receive(self, message: Any) -> Any:
            if message == "boom":
                raise ValueError
            return super().on_receive(message)

    async def play(runtime: Runtime) -> Any:
        ref = runtime.start(Unlucky)
        with pytest.raises(ValueError, match=r"^$"):
            await ask(ref, "boom")
        ref.tell("boom")
        answer = await ask(ref, "waited")
        assert runtime.restarts == 2  # after the message, after the constructor
        return answer

    assert in_world(play) == "waited"
    assert len(builds) == 3


@scenario(in_world)
async def test_a_hook_that_fails_does_not_prevent_the_restart(runtime: Runtime) -> None:
    class Clumsy(Fragile):
        def on_failure(self, *_: Any) -> None:
            raise RuntimeError("in the hook")

    ref = runtime.start(Clumsy, [])
    with structlog.testing.capture_logs() as logs:
        ref.tell("boom")
        await ask(ref, "next")
    assert [entry["event"] for entry in logs] == ["actor_restarts", "actor_hook_failed"]


def test_log_lines_name_the_error_and_its_place_but_not_what_it_says() -> None:
    async def play(runtime: Runtime) -> list[Any]:
        ref = runtime.start(Fragile, [])
        with structlog.testing.capture_logs() as logs:
            ref.tell("boom")
            await ask(ref, "next")
        return list(logs)

    (line,) = in_world(play)
    assert line["event"] == "actor_restarts"
    assert line["error"] == "ValueError"
    assert line["at"].startswith("fragile.py:")
    assert "secret" not in str(line)


@pytest.mark.parametrize("policy", [Stop(), Restart(restarts_max=0)])
def test_the_end_of_an_actor_is_logged_without_what_the_error_says(
    policy: Stop | Restart, caplog: pytest.LogCaptureFixture
) -> None:
    class Mortal(Fragile):
        supervision = policy

    async def play(runtime: Runtime) -> str:
        ref = runtime.start(Mortal, [])
        with structlog.testing.capture_logs() as logs:
            with pytest.raises(ValueError, match="a secret"):
                await ask(ref, "boom")
            ref.tell("boom")
            await asyncio.sleep(1)
        assert logs[0]["event"] == "actor_failed"
        assert not ref.is_alive()
        return str(logs)

    with caplog.at_level("DEBUG"):
        assert "secret" not in in_world(play)
    assert "secret" not in caplog.text


def test_an_actor_may_ask_for_pykkas_log_lines_with_the_whole_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Talkative(Fragile):
        supervision = Stop()
        log_exception_text = True

    async def play(runtime: Runtime) -> None:
        runtime.start(Talkative, []).tell("boom")
        await asyncio.sleep(1)

    in_world(play)
    assert "Unhandled exception in Talkative" in caplog.text
    assert "ValueError: a secret" in caplog.text


def test_stop_is_pykkas_behaviour_and_the_default() -> None:
    class Plain(Fragile):
        supervision = Stop()

    async def play(runtime: Runtime) -> list[Any]:
        log: list[Any] = []
        ref = runtime.start(Plain, log)
        ref.tell("boom")
        ref.tell("left")
        await asyncio.sleep(1)
        assert ref.actor_inbox.reason is Reason.FAILED
        assert runtime.dead_letters == 1
        return [*log]

    assert LoopActor.supervision == Stop()
    assert in_world(play) == ["start", "boom", "on_failure"]


@scenario(in_world)
async def test_stop_now_ends_an_actor_that_waits_for_its_restart(runtime: Runtime) -> None:
    log: list[Any] = []
    ref = runtime.start(Fragile, log)
    ref.tell("boom")
    ref.tell("left")
    await asyncio.sleep(0.01)
    ref.stop_now()
    await asyncio.sleep(5)
    assert ref.actor_inbox.reason is Reason.STOPPED
    assert runtime.restarts == 0
    assert [*log] == ["start", "boom", "on_failure"]


@scenario(in_world)
async def test_runtime_stop_does_not_wait_for_a_back_off(runtime: Runtime) -> None:
    class Patient(Fragile):
        supervision = Restart(backoff_min_s=30)

    runtime.start(Patient, []).tell("boom")
    await asyncio.sleep(0.01)
    assert await runtime.stop()
    assert runtime.loop.time() < 1


@scenario(in_world)
async def test_one_actors_failure_changes_no_other(runtime: Runtime) -> None:
    broken = [runtime.start(Fragile, []) for _ in range(10)]
    sound = [runtime.start(Fragile, []) for _ in range(10)]
    for ref in broken:
        ref.tell("boom")
    for expected in (1, 2, 3):
        for ref in sound:
            assert await ask(ref, "well") == expected
