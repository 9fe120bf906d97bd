"""How a node over an ordered log begins and ends: what waits is told, and what runs is waited for."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import MemoryLog
from tests.support.models.failing_store import Way, one_node
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.worlds.logs import append, event
from tests.support.worlds.replicas import Node

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


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
