"""How long the start of a node waits for the ordered log."""

import asyncio

import pytest

from huahuo.app.nodes import JOIN_S, joins_soon
from huahuo.eventstore.sequencer.port import Unreachable
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.replicas import Node

pytestmark = pytest.mark.virtual_time


class FirstAnswer(MemorySequencer):
    """An ordered log that answers the opening of the replica."""

    answered = False

    async def last(self) -> int:
        if self.answered:
            await self.later()
        self.answered = True
        return await super().last()

    async def later(self) -> None:
        """What happens to later questions."""


class LeftAlone(FirstAnswer):
    async def later(self) -> None:
        raise Unreachable("no server answers")


class Slow(FirstAnswer):
    async def later(self) -> None:
        await asyncio.sleep(2 * JOIN_S)


@pytest.mark.parametrize(("way", "waits_s"), [(FirstAnswer, 0), (LeftAlone, 0), (Slow, JOIN_S)])
async def test_a_start_waits_for_a_slow_ordered_log_and_not_for_one_that_is_away(
    way: type[FirstAnswer], waits_s: float
) -> None:
    node = Node("a", MemoryOrder(), lambda order, _name: way(order), 1)
    await node.start(joined=False)
    began_s = asyncio.get_running_loop().time()
    assert await joins_soon(node.writer) is (way is FirstAnswer)
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(waits_s, abs=1)
    await node.log.close()
