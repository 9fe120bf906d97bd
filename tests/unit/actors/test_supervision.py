"""Supervision: a failed actor restarts under the same ref, or its end is reported."""

import asyncio
from typing import Any

import pytest
import structlog

from huahuo.actors import (
    LoopActor,
    Restart,
    Runtime,
    Stop,
    ask,
)
from tests.support.worlds.actors import Recorder, in_world
from tests.support.worlds.fragile import Fragile
from tests.support.worlds.scenario import scenario

pytestmark = pytest.mark.virtual_time


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
