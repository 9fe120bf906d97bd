"""The parts of a replica, each without a node: what they say of what is missing, foreign, late or over."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.draft import Draft
from huahuo.eventstore.core.storage_port import Place
from huahuo.eventstore.errors import EventStoreError, NumbersSpent, Unavailable
from huahuo.eventstore.replicated.order_reader import Arrivals
from huahuo.eventstore.replicated.outbox import BLOCK, Reservations
from huahuo.eventstore.replicated.state_machine import Reserved, Run, Shared, apply_all
from huahuo.eventstore.sequencer.port import Misconfigured, Ordered, SequencerError
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.proposals import CODEC, Nothing, encoded, proposal

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


def run() -> tuple[Run, Draft]:
    draft = Draft(Place(0, GENESIS, {}), Nothing(), "", 0)
    return Run(draft, Shared(), {}, 1, CODEC), draft


def test_a_hole_in_the_order_is_not_passed_over() -> None:
    begun, draft = run()
    with pytest.raises(EventStoreError, match="proposal 1 is missing"):
        apply_all(begun, draft, [Ordered(2, encoded(proposal()))])
    assert begun.shared.offset == 0


async def test_numbers_that_come_for_nobody_are_kept_and_those_who_wait_at_the_end_are_told() -> None:
    reservations = Reservations(lambda: None)
    reservations.came(Reserved("c", 1, 2 * BLOCK))
    assert reservations.take("c", 1) == 1
    waiting = asyncio.ensure_future(reservations.reserve("d", 1))
    await asyncio.sleep(0)
    reservations.end("the end")
    with pytest.raises(Unavailable, match="the end"):
        await waiting
    assert reservations.wanted == {}


async def test_an_order_that_refuses_to_be_read_stops_the_node_with_its_reason() -> None:
    coming, halted = arrivals(Scripted(1, Misconfigured("the log went back")))
    await coming.follow(0)
    assert halted == ["the log went back"]


async def test_blocks_that_follow_one_another_are_one_and_what_is_too_short_is_given_up() -> None:
    reservations = Reservations(lambda: None)
    for first in (1, 11, 41):
        reservations.came(Reserved("c", first, 10))
    assert [reservations.take("c", count) for count in (15, 5, 9)] == [1, 16, 41]
    with pytest.raises(NumbersSpent):
        reservations.take("c", 2)
