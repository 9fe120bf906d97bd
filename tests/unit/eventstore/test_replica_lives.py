"""How a node over an ordered log begins and ends: what waits is told, and what runs is waited for."""

import functools

import pytest

from huahuo.eventstore.model import Appended
from huahuo.eventstore.replicated.opening import Held, open_replica
from huahuo.eventstore.replicated.peers import LIVING_S
from huahuo.eventstore.sequencer.port import InDoubt, Unreachable
from tests.support.models.failing_store import Way, one_node
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.worlds.logs import MASTER_KEY, append, event
from tests.support.worlds.replicas import Node, cluster

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


async def test_an_empty_directory_waits_for_an_order_that_is_away() -> None:
    order = MemoryOrder()
    way = Way(order)
    way.answers, way.away = 0, [Unreachable("away"), InDoubt("no answer")]
    node = Node("a", order, lambda *_: way, 1)
    await node.start()
    assert way.away == []
    assert isinstance(await node.log.append(append(event("s"))), Appended)
    await node.log.close()


async def test_a_node_counts_itself_and_each_that_was_heard_lately_as_living() -> None:
    async with cluster("ab") as made:
        await made.caught_up()
        one, other = made.nodes
        assert one.log.incarnation == "a.1"
        assert one.log.living() == {"a.1", "b.1"}
        await other.log.close()
        one.ambient.advance(60)
        assert one.log.living() == {"a.1", "b.1"}, "nothing at all was heard meanwhile"
        for _ in range(int(LIVING_S)):
            one.ambient.advance(1.0)
            await one.log.append(append(event("s")))
        assert one.log.living() == {"a.1"}
