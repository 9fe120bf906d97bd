"""A node that has much to apply still answers its probe and still speaks: other nodes' bursts take turns."""

import pytest

from huahuo.eventstore.replicated.writer import APPLIED_AT_ONCE, ReplicaWriter
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.logs import append, event
from tests.support.worlds.replicas import cluster

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]
BURST = 8 * APPLIED_AT_ONCE


class Noting(MemorySequencer):
    """Notes how far its node had applied when it proposed last."""

    writer: ReplicaWriter | None = None
    applied_then = 0

    async def propose(self, proposal: bytes, proposal_id: str) -> int:
        if self.writer is not None:
            self.applied_then = self.writer.shared.offset
        return await super().propose(proposal, proposal_id)


def burst(order: MemoryOrder) -> int:
    """Proposals of strangers: each takes an offset. Returns the last one."""
    for _ in range(BURST):
        order.put(b"of another log")
    return order.last


async def test_a_probe_is_answered_between_two_batches_of_what_is_applied() -> None:
    async with cluster("a", way=lambda order, _: MemorySequencer(order)) as made:
        [node] = made.nodes
        last = burst(made.order)
        await node.writer.applied(last - BURST + 1)  # the burst has arrived
        assert await node.log.probe() is None
        assert node.writer.shared.offset < last


async def test_a_node_proposes_between_two_batches_of_what_is_applied() -> None:
    async with cluster("a", way=lambda order, _: Noting(order)) as made:
        [node] = made.nodes
        way = node.sequencer
        assert isinstance(way, Noting)
        last = burst(made.order)
        await node.writer.applied(last - BURST + 1)
        way.writer = node.writer
        await node.log.append(append(event("s")))
        assert 0 < way.applied_then < last
