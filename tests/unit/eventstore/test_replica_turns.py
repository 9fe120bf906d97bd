"""A node that has much to apply still answers its probe and still speaks: other nodes' bursts take turns."""

import pytest

from huahuo.eventstore.replicated.writer import APPLIED_AT_ONCE
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.replicas import cluster

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]
BURST = 8 * APPLIED_AT_ONCE


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
