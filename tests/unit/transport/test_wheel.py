"""The wheel passes over those that rest, and says once why it was late: by sleep, or because of its loop."""

import asyncio
import math

import pytest
from structlog.testing import capture_logs

from huahuo.app.process import Look
from huahuo.eventstore.ambient import AwakeAmbient, FakeAmbient
from huahuo.transport.server.hub import BUCKETS, TURN_S, Wheel
from tests.support.worlds.services import Recorder

pytestmark = pytest.mark.virtual_time

LATE_S = 5.0


class LoopWatch:
    """A turning wheel over a clock that a test moves, and a look at its loop as a thread has it."""

    def __init__(self) -> None:
        self.clock = FakeAmbient()
        self.awake = AwakeAmbient(self.clock)
        self.look = Look(self.clock.monotonic_s())
        self.awake.ran = self.look.ran
        self.wheel = Wheel(self.awake, lambda: None, awake=self.awake)

    def looks(self, times: int) -> None:
        """The thread looks while the loop does not turn."""
        for _ in range(times):
            self.clock.advance(LATE_S / times)
            self.look.look(self.clock.monotonic_s())

    async def turn(self) -> list[str]:
        """Let the wheel turn; what was logged."""
        with capture_logs() as lines:
            await asyncio.sleep(2 * TURN_S / BUCKETS)  # virtual
        return [line["event"] for line in lines]


async def test_a_process_that_slept_is_told_also_if_the_thread_looked_before_the_wheel() -> None:
    watch = LoopWatch()
    watch.wheel.start()
    watch.looks(1)
    assert await watch.turn() == ["process_slept"]
    watch.wheel.stop()


async def test_a_sleep_after_a_held_loop_is_told() -> None:
    watch = LoopWatch()
    watch.wheel.start()
    watch.looks(20)
    await watch.turn()
    watch.clock.advance(LATE_S)
    assert await watch.turn() == ["process_slept"]
    watch.wheel.stop()


class Turning:
    """A turning wheel with one connection. Its clock moves with the loop's virtual one."""

    def __init__(self) -> None:
        self.clock = FakeAmbient()
        self.wheel = Wheel(self.clock, lambda: None)
        self.one = Recorder()
        self.wheel.enter(self.one)
        self.wheel.start()

    async def ticks(self, turns: int = 1) -> int:
        """Let it turn this many times. Returns how often the connection was ticked."""
        before = len(self.one.ticks)
        for _ in range(turns):
            self.clock.advance(TURN_S)
            await asyncio.sleep(TURN_S)  # virtual
        return len(self.one.ticks) - before


@pytest.mark.parametrize("by_ms", [2_000, -86_400_000])
async def test_a_wall_clock_that_was_set_makes_all_look_once_at_what_ends_by_it(by_ms: int) -> None:
    turning = Turning()
    turning.one.rests_until_s = math.inf
    assert await turning.ticks(5) == 1
    turning.clock.jump(by_ms)
    assert await turning.ticks(5) == 1
    turning.wheel.stop()


async def test_a_connection_that_leaves_in_its_tick_is_forgotten() -> None:
    turning = Turning()
    turning.one.on_tick = lambda: turning.wheel.leave(turning.one)
    assert await turning.ticks(3) == 1
    turning.wheel.stirred(turning.one)
    assert len(turning.wheel) == 0
    assert await turning.ticks(3) == 0
    turning.wheel.stop()


async def test_after_a_sleep_a_connection_that_rested_is_woken_and_then_ticked() -> None:
    watch = LoopWatch()
    one = Recorder()
    one.rests_until_s = math.inf
    watch.wheel.enter(one)
    watch.wheel.start()
    await asyncio.sleep(2 * TURN_S)  # virtual
    watch.clock.advance(LATE_S)
    with capture_logs():
        await asyncio.sleep(3 * TURN_S)  # virtual
    assert (len(one.wakes), len(one.ticks)) == (1, 2)
    watch.wheel.stop()
