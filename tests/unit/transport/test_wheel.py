"""The wheel says once why it was late: the process slept, or something held its loop."""

import asyncio

import pytest
from structlog.testing import capture_logs

from huahuo.app.watching import Look
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.awake import AwakeAmbient
from huahuo.transport.server.wheel import BUCKETS, TURN_S, Wheel

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


async def test_a_process_that_slept_is_told() -> None:
    watch = LoopWatch()
    watch.wheel.start()
    watch.clock.advance(LATE_S)
    assert await watch.turn() == ["process_slept"]
    watch.wheel.stop()


async def test_a_process_that_slept_is_told_also_if_the_thread_looked_before_the_wheel() -> None:
    watch = LoopWatch()
    watch.wheel.start()
    watch.looks(1)
    assert await watch.turn() == ["process_slept"]
    watch.wheel.stop()


async def test_a_loop_that_something_held_is_no_process_that_slept() -> None:
    watch = LoopWatch()
    watch.wheel.start()
    watch.looks(20)
    assert await watch.turn() == []
    assert watch.awake.slept_s() > LATE_S - 1.0
    watch.wheel.stop()


async def test_a_sleep_after_a_held_loop_is_told() -> None:
    watch = LoopWatch()
    watch.wheel.start()
    watch.looks(20)
    await watch.turn()
    watch.clock.advance(LATE_S)
    assert await watch.turn() == ["process_slept"]
    watch.wheel.stop()
