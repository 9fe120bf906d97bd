"""How a node over an ordered log begins and ends: what waits is told, and what runs is waited for."""

import functools

import pytest

from huahuo.eventstore.errors import (
    EventStoreError,
)
from huahuo.eventstore.memory import MemoryLog
from huahuo.eventstore.replicated.opening import Held, open_replica
from huahuo.eventstore.sequencer.port import Unreachable
from tests.support.models.failing_store import Way, one_node
from tests.support.models.memory_sequencer import MemorySequencer
from tests.support.worlds.logs import MASTER_KEY, append, event
from tests.support.worlds.replicas import Node

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def test_a_directory_with_a_replica_opens_and_serves_while_the_order_is_away() -> None:
    async with one_node() as made:
        [node] = made.nodes
        await node.log.append(append(event("s", b"one")))
        held = Held(node.log.log_id, node.writer.shared.offset)
        await node.log.close()
        way = Way(made.order)
        way.answers, way.away = 0, [Unreachable("away")] * 3
        engine = functools.partial(node.engine, master_key=MASTER_KEY, build="test-1")
        node.log = await open_replica(
            engine, ambient=node.ambient, master_key=MASTER_KEY, sequencer=way, node="a", held=held
        )
        assert [one.body for one in await node.history()] == [b"one"]
        await node.writer.joined()
        assert way.away == []


async def test_a_directory_of_a_single_service_does_not_join_before_it_is_adopted() -> None:
    async with one_node() as made:
        [node] = made.nodes
        lone = Node("b", made.order, lambda order, _: MemorySequencer(order), 1)
        single = await MemoryLog.open(
            lone.disk, ambient=lone.ambient, master_key=MASTER_KEY, build="b", log_id=node.log.log_id
        )
        await single.append(append(event("s")))
        await single.close()
        with pytest.raises(EventStoreError, match="adopt it into a cluster first"):
            await lone.start()
