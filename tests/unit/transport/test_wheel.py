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
