"""After a process was stopped, its deadlines have moved and its peers are pinged before any is cut off."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from huahuo.actors import LoopActor, Runtime, ask
from huahuo.actors.actor.messages import AskTimeout
from huahuo.eventstore.ambient import AwakeAmbient, FakeAmbient, SystemAmbient
from huahuo.testing.world import virtual_loop
from huahuo.transport.access.revocations import Revocations
from huahuo.transport.server.hub import Hub
from tests.support.models.faulty_log import faulty_log

pytestmark = pytest.mark.virtual_time

STEP_S = 0.1


class LoopAmbient(SystemAmbient):
    """The loop's clock, which a test may advance in one jump."""

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


@contextlib.asynccontextmanager
async def wheel(**limits: float) -> AsyncIterator[AwakeAmbient]:
    """The clock of a running hub, whose wheel reports its turns to it."""
    awake = AwakeAmbient(LoopAmbient(), **limits)
    hub = Hub(await faulty_log(), awake, revocations=Revocations(), awake=awake)
    await hub.start()
    yield awake
    await hub.stop()


def turned(clock: FakeAmbient, awake: AwakeAmbient, *steps_s: float) -> float:
    """Turn the wheel after each of these times; returns what the clock says then."""
    for step_s in steps_s:
        clock.advance(step_s)
        awake.expect(STEP_S)
    return awake.monotonic_s()


def test_a_clock_read_before_the_timers_run_does_not_count_the_sleep_either() -> None:
    clock = FakeAmbient()
    awake = AwakeAmbient(clock)
    awake.expect(STEP_S)
    clock.advance(30.1)
    assert awake.monotonic_s() == pytest.approx(0.1)
    assert turned(clock, awake, 0.0) == pytest.approx(0.1)


class Slow(LoopActor):
    """Answers after ten seconds."""

    async def on_receive(self, message: Any) -> Any:
        await asyncio.sleep(message)
        return "done"


async def test_an_ask_is_not_given_up_for_a_sleep() -> None:
    async with wheel() as awake:
        runtime = Runtime(virtual_loop(), ambient=awake)
        ref = runtime.start(Slow)
        virtual_loop().call_later(1, virtual_loop().sleep_through, 8)
        assert await ask(ref, 10, timeout_s=5) == "done", "2 s of 10 were awake"
        with pytest.raises(AskTimeout):
            await ask(ref, 10, timeout_s=5)
        await runtime.stop()
