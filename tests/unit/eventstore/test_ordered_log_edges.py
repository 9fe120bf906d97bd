"""Asking an ordered log for its newest offset, and refusing one that is not this directory's."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.replicated import proposal as proposals
from huahuo.eventstore.replicated.opening import SameOrder
from huahuo.eventstore.replicated.order_reader import Newest
from huahuo.eventstore.replicated.proposal import Birth
from huahuo.eventstore.sequencer.port import Misconfigured
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer


class Counting(MemorySequencer):
    """Counts the questions, and answers when the loop has turned."""

    asked = 0

    async def last(self) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        return await super().last()


async def test_many_that_ask_at_once_share_a_question_that_begins_after_they_came() -> None:
    order = MemoryOrder()
    order.put(b"a")
    sequencer = Counting(order)
    newest = Newest(sequencer)
    assert await asyncio.gather(*(newest.ask() for _ in range(10))) == [1] * 10
    assert sequencer.asked <= 2


async def test_an_ordered_log_that_does_not_answer_is_unavailable() -> None:
    sequencer = MemorySequencer(MemoryOrder())
    await sequencer.close()
    with pytest.raises(Unavailable):
        await Newest(sequencer).ask()


async def test_an_ordered_log_that_went_back_is_refused() -> None:
    with pytest.raises(Misconfigured, match="it is another log, or it went back"):
        await SameOrder(MemorySequencer(MemoryOrder()), "log-1", applied=5).check()


@pytest.mark.parametrize(
    "use",
    [
        lambda way: way.last(),
        lambda way: way.propose(b"a", "1"),
        lambda way: anext(way.follow(0)),
    ],
)
async def test_each_first_use_of_the_ordered_log_compares_it(
    use: Callable[[SameOrder], Awaitable[object]],
) -> None:
    order = MemoryOrder()
    order.put(b"no birth")
    way = SameOrder(MemorySequencer(order), "log-1", applied=5)
    with pytest.raises(Misconfigured):
        await use(way)


async def test_an_ordered_log_whose_beginning_was_trimmed_is_taken_as_the_same() -> None:
    order = MemoryOrder()
    order.put(b"a")
    order.put(b"b")
    order.trim(2)
    way = SameOrder(MemorySequencer(order), "log-1", applied=2)
    await way.check()
    await way.check()
    assert await way.last() == 2


async def test_another_log_is_known_by_the_birth_that_was_told_again_before_it_was_trimmed() -> None:
    order = MemoryOrder()
    for proposal in (b"a", proposals.dump_birth_again(Birth(1, "log-2", b"mark"), b"k" * 32), b"c"):
        order.put(proposal)
    order.trim(2)
    with pytest.raises(Misconfigured, match="that of log-2"):
        await SameOrder(MemorySequencer(order), "log-1", applied=3).check()
    order.put(proposals.dump_birth_again(Birth(1, "log-1", b"mark"), b"k" * 32))
    await SameOrder(MemorySequencer(order), "log-1", applied=3).check()
