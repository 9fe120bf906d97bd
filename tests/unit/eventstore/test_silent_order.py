"""An ordered log that is silent: a lost network drops packets, so no request fails and none is answered."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from huahuo.eventstore.replicated.order_reader import SILENT_S
from huahuo.eventstore.sequencer.port import InDoubt
from tests.support.models.memory_sequencer import MemorySequencer
from tests.support.worlds.logs import append, event
from tests.support.worlds.replicas import Node, cluster

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Silent(MemorySequencer):
    """While `lost`, nobody hears what is proposed, and no answer comes."""

    lost = False

    async def propose(self, proposal: bytes) -> int:
        if self.lost:
            await asyncio.sleep(2)
            raise InDoubt("no answer came")
        return await super().propose(proposal)


async def wait(node: Node, seconds: float) -> None:
    for _ in range(int(seconds * 2)):
        node.ambient.advance(0.5)
        await asyncio.sleep(0.5)


def about_the_order(said: list[Any]) -> list[str]:
    return [one["event"] for one in said if one["event"].startswith("ordered_log_")]


async def test_a_node_that_gets_no_answers_says_so_and_takes_it_back_when_they_come() -> None:
    async with cluster("ab", way=lambda order, _: Silent(order)) as made:
        node = made.nodes[0]
        assert isinstance(node.sequencer, Silent)
        await wait(node, 5)
        with capture_logs() as said:
            node.sequencer.lost = True
            waiting = node.log.submit(append(event("s")))
            await wait(node, SILENT_S + 5)
            assert "the ordered log has not answered for" in str(node.writer.trouble)
            node.sequencer.lost = False
            await waiting
            await wait(node, 3)
            assert node.writer.trouble is None
        assert about_the_order(said) == ["ordered_log_away", "ordered_log_back"]
