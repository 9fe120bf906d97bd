"""The parts of a replica, each without a node: what they say of what is missing, foreign, late or over."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from huahuo.eventstore.replicated.order_reader import READ_AHEAD_MAX, Arrivals
from huahuo.eventstore.sequencer.port import Ordered, SequencerError
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer

pytestmark = pytest.mark.anyio


class Scripted(MemorySequencer):
    """An ordered log that gives these proposals, and then ends or fails."""

    def __init__(self, count: int, error: SequencerError | None = None) -> None:
        super().__init__(MemoryOrder())
        self.given = 0
        self._count = count
        self._error = error

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        for offset in range(after + 1, self._count + 1):
            self.given = offset
            yield Ordered(offset, b"p")
        if self._error is not None:
            raise self._error


def arrivals(sequencer: MemorySequencer) -> tuple[Arrivals, list[str]]:
    halted: list[str] = []
    return Arrivals(sequencer, wake=lambda: None, halt=halted.append), halted


async def test_no_more_is_read_ahead_than_can_be_applied_soon() -> None:
    order = Scripted(2 * READ_AHEAD_MAX)
    coming, halted = arrivals(order)
    reading = asyncio.ensure_future(coming.follow(0))
    await asyncio.sleep(0.01)
    assert (order.given, len(coming)) == (READ_AHEAD_MAX, READ_AHEAD_MAX)
    coming.drop(READ_AHEAD_MAX // 2)
    await asyncio.sleep(0.01)
    assert (len(coming), reading.done()) == (READ_AHEAD_MAX, False)
    coming.drop(2 * READ_AHEAD_MAX)
    await asyncio.sleep(0.01)
    coming.drop(2 * READ_AHEAD_MAX)
    await reading
    assert (order.given, halted) == (2 * READ_AHEAD_MAX, [])
