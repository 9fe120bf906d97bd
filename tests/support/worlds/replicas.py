"""Nodes over one ordered log in one process, each with a clock, chance and disk of its own."""

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.memory.log import MemoryLog
from huahuo.eventstore.memory.model_disk import ModelDisk
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.eventstore.replicated.opening import open_replica
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.memory import MemoryOrder, MemorySequencer
from huahuo.eventstore.sequencer.port import Sequencer
from tests.support.worlds.logs import MASTER_KEY

type Way = Callable[[MemoryOrder, str], Sequencer]
"""How a node reaches the order."""


class Node:
    """A node with its in-memory replica. `crash` leaves its disk."""

    def __init__(self, name: str, order: MemoryOrder, way: Way, seed: int) -> None:
        self.name = name
        self.ambient = FakeAmbient(f"{name} {seed}")
        self.disk = ModelDisk()
        self.sequencer: Sequencer
        self.log: StoreLog
        self.order = order
        self._way = way
        self._chance = random.Random(f"{name} {seed}")

    @property
    def writer(self) -> ReplicaWriter:
        assert isinstance(self.log.writer, ReplicaWriter)
        return self.log.writer

    async def start(
        self, *, joined: bool = True, master_key: bytes = MASTER_KEY, build: str = "test-1"
    ) -> None:
        """Open the replica; with `joined`, wait until it may propose."""
        self.sequencer = self._way(self.order, self.name)
        engine = functools.partial(
            MemoryLog.open, self.disk, ambient=self.ambient, master_key=master_key, build=build
        )
        self.log = await open_replica(
            engine, ambient=self.ambient, master_key=master_key, sequencer=self.sequencer, node=self.name
        )
        if joined:
            await self.writer.joined()

    async def crash(self) -> None:
        """Lose power: what was not synced is gone, and nothing of this life is heard of again."""
        self.disk.fence_off()
        self.writer.halt("the power is gone")
        await self.log.close()
        self.disk.let_in()
        self.disk.crash(self._chance)

    async def history(self) -> list[StoredEvent]:
        """All events of the replica."""
        return await self.log.read(LOG_STREAM, 0, events_max=1 << 20, bytes_max=1 << 30)

    async def caught_up(self) -> None:
        """Wait until all that is ordered now is applied."""
        await self.writer.applied(self.order.last)


class Cluster:
    """Some nodes over one `order`."""

    def __init__(
        self, names: Sequence[str] = "abc", *, way: Way | None = None, seed: int = 1, **order: int
    ) -> None:
        self.order = MemoryOrder(**order)
        self.nodes = [
            Node(name, self.order, way or (lambda order, _: MemorySequencer(order)), seed) for name in names
        ]

    async def start(self) -> None:
        await asyncio.gather(*(node.start() for node in self.nodes))

    async def close(self) -> None:
        await asyncio.gather(*(node.log.close() for node in self.nodes if hasattr(node, "log")))

    async def caught_up(self) -> None:
        """Wait until every node has applied all."""
        while len({node.writer.shared.offset for node in self.nodes}) > 1 or (
            self.nodes[0].writer.shared.offset < self.order.last
        ):
            for node in self.nodes:
                await node.caught_up()


@asynccontextmanager
async def cluster(
    names: str = "abc", *, way: Way | None = None, seed: int = 1, **order: int
) -> AsyncIterator[Cluster]:
    """Nodes that have joined, closed at the end."""
    made = Cluster(names, way=way, seed=seed, **order)
    await made.start()
    try:
        yield made
    finally:
        await made.close()
