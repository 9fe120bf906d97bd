"""How a node over an ordered log begins and ends: what waits is told, and what runs is waited for."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from huahuo.eventstore.errors import (
    Unavailable,
)
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import MemoryLog
from huahuo.eventstore.replicated.opening import Held, open_replica
from huahuo.eventstore.sequencer.port import Ordered, Unreachable
from tests.support.models.failing_store import Way, one_node
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
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


class Paused(InlineExecutor):
    """Runs jobs while `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    async def run[T](self, job: Callable[[], T]) -> T:
        await self.open.wait()
        return await super().run(job)


class HeldNode(Node):
    """A node whose writer does what it does while its executor is open."""

    def __init__(self, order: MemoryOrder) -> None:
        super().__init__("a", order, lambda order, _: Way(order), 1)
        self.executor = Paused()

    async def engine(self, **options: Any) -> MemoryLog:
        return await MemoryLog.open(self.disk, ambient=self.ambient, executor=self.executor, **options)


async def test_appends_that_wait_when_a_node_stops_are_in_doubt_wherever_they_wait() -> None:
    node = HeldNode(MemoryOrder())
    await node.start()
    node.executor.open.clear()
    made = node.log.submit(append(event("s")))  # its proposal is being made
    await asyncio.sleep(0)
    queued = node.log.submit(append(event("s")))
    await asyncio.sleep(0)
    node.writer.halt("the order is gone")
    node.writer.halt("and again")
    node.executor.open.set()
    outcomes = await asyncio.gather(made, queued, return_exceptions=True)
    assert [str(one) for one in outcomes] == ["the log cannot write: the order is gone"] * 2
    assert node.writer.trouble == "the order is gone"
    await node.log.close()


async def test_a_node_cares_for_its_files_once_a_second_while_that_is_due_and_not_after_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with one_node() as made:
        [node] = made.nodes
        loop, cared = asyncio.get_running_loop(), list[float]()
        monkeypatch.setattr(node.log.store, "care_due", lambda: True)
        monkeypatch.setattr(node.log.store, "care", lambda: cared.append(loop.time()))
        await node.log.append(append(event("s")))
        await asyncio.sleep(3.5)
        times = len(cared)
        assert 3 <= times <= 10
    await asyncio.sleep(5)
    assert len(cared) <= times + 1


class Slow(MemorySequencer):
    """An order of which nothing is read at once."""

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        if after:  # else its genesis record is looked for
            await asyncio.sleep(0.1)
        async for one in super().follow(after):
            yield one


async def test_a_node_that_differs_before_it_has_joined_says_so() -> None:
    async with cluster("ab") as made:
        one, wrong = made.nodes
        await made.caught_up()
        held = Held(wrong.log.log_id, wrong.writer.shared.offset)
        await wrong.log.close()
        for _ in range(3):
            await one.log.append(append(event("s")))
        await asyncio.sleep(3)  # it says what it has
        engine = functools.partial(wrong.engine, master_key=MASTER_KEY, build="test-1")
        wrong.log = await open_replica(
            engine, ambient=wrong.ambient, master_key=MASTER_KEY, sequencer=Slow(made.order), node="b",
            held=held,
        )  # fmt: skip
        wrong.writer.place.chain = b"x" * 32
        with pytest.raises(Unavailable, match="differs from that of a"):
            await wrong.writer.joined()
