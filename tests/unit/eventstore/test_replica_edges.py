"""A node over an ordered log when its store, its log or its end come in the way: nothing is told wrongly."""

import pytest

from huahuo.eventstore.errors import (
    Closed,
    EventStoreError,
    InUse,
    Unavailable,
)
from huahuo.eventstore.model import Keyframe
from huahuo.eventstore.sequencer.port import Misconfigured, Unreachable
from tests.support.models.failing_store import Way, failing, one_node
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.worlds.logs import append, event
from tests.support.worlds.replicas import Cluster, Node

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]
FRAME = Keyframe("s", "fold", "print", 1, b"state")


def way_of(node: Node) -> Way:
    way = node.sequencer
    assert isinstance(way, Way)
    return way


async def test_a_replica_whose_directory_was_taken_over_stops_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with one_node() as made:
        [node] = made.nodes
        await node.log.append(append(event("s")))
        failing(node.log.store, monkeypatch, InUse("another process writes here"))
        with pytest.raises(Unavailable, match="another process"):
            await node.log.put_keyframe(FRAME)
        with pytest.raises(Closed, match="another process"):
            await node.log.append(append(event("s")))
        assert "another process" in (await node.log.probe() or "")


async def test_an_order_that_refuses_a_proposal_for_good_stops_the_node_with_its_reason() -> None:
    async with one_node() as made:
        [node] = made.nodes
        way_of(node).refuses.append(Misconfigured("it may lose what it acknowledged"))
        with pytest.raises(Unavailable):
            await node.log.append(append(event("s")))
        assert "it may lose what it acknowledged" in (node.writer.trouble or "")


async def test_an_order_that_refuses_to_say_how_long_it_is_stops_the_node_with_its_reason() -> None:
    made = Cluster("a", way=lambda order, _: Way(order))
    [node] = made.nodes
    await node.start()
    await node.log.close()

    def away(order: MemoryOrder, _: str) -> Way:
        way = Way(order)
        way.answers = 1  # while it opens
        way.away = [Unreachable("away"), Misconfigured("it may lose what it acknowledged")]
        return way

    node._way = away  # noqa: SLF001  the way of its next life
    with pytest.raises(EventStoreError, match="it may lose what it acknowledged"):
        await node.start()
