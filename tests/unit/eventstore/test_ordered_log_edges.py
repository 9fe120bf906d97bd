"""Asking an ordered log for its newest offset."""

import asyncio

import pytest

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.replicated.order_reader import Newest
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
