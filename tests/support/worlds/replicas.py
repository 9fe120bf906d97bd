"""Nodes over one ordered log in one process, each with a clock, chance and disk of its own."""

import asyncio
import functools
import itertools
import random
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.storage_port import Passed
from huahuo.eventstore.core.writer import WriterOf
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.model import LOG_STREAM, CommandKey, CommandRecord, StoredEvent
from huahuo.eventstore.replicated.opening import open_replica
from huahuo.eventstore.replicated.state_machine import load_shared
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.port import Sequencer
from huahuo.eventstore.sqlite.changes import SHARED_KEY
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import get_meta
from huahuo.eventstore.sqlite.store import SqliteStore
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.logs import MASTER_KEY

type Way = Callable[[MemoryOrder, str], Sequencer]
"""How a node reaches the order."""


STEP_S = 0.25


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

    async def engine(self, *, build: str, master_key: bytes, log_id: str, writer_of: WriterOf) -> StoreLog:
        """Open the node's engine."""
        return await MemoryLog.open(
            self.disk, ambient=self.ambient, master_key=master_key, build=build,
            log_id=log_id, writer_of=writer_of,
        )  # fmt: skip

    async def start(
        self, *, joined: bool = True, master_key: bytes = MASTER_KEY, build: str = "test-1"
    ) -> None:
        """Open the replica; with `joined`, wait until it may propose."""
        self.sequencer = self._way(self.order, self.name)
        engine = functools.partial(self.engine, master_key=master_key, build=build)
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

    def tables(self) -> dict[str, Any]:
        """All of the replicated state that is durable here, as plain values."""
        tables = self.log.store.tables  # type: ignore[attr-defined]  # of the in-memory engine
        return {
            "events": tables.events,
            "pruned": tables.pruned,
            "firsts": {name: first for name, first in tables.firsts.items() if first > 1},
            "ended": sorted(tables.ended),
            "commands": {key: (record, tables.command_times[key]) for key, record in tables.commands.items()},
            "counters": tables.counters,
            "keys": tables.keys,
            "sealed": {
                (owner, name): box for owner, boxes in tables.sealed.items() for name, box in boxes.items()
            },
            "blobs": tables.blobs,
            "rows": {
                (*part, key): value for part, rows in tables.rows.items() for key, value in rows.items()
            },
            "acks": tables.acks,
            "shared": load_shared(tables.shared),
            "passed": list(tables.passed),
        }

    async def history(self) -> list[StoredEvent]:
        """All events of the replica."""
        return await self.log.read(LOG_STREAM, 0, events_max=1 << 20, bytes_max=1 << 30)

    async def caught_up(self) -> None:
        """Wait until all that is ordered now is applied."""
        await self.writer.applied(self.order.last)


class SqliteNode(Node):
    """A node with a replica in a directory. A crash is a copy of the files as they are."""

    def __init__(self, name: str, order: MemoryOrder, way: Way, seed: int, root: Path) -> None:
        super().__init__(name, order, way, seed)
        self._directories = (root / f"{name}-{number}" for number in itertools.count())
        self.directory = next(self._directories)

    async def engine(self, *, build: str, master_key: bytes, log_id: str, writer_of: WriterOf) -> StoreLog:
        return await SqliteLog.open(
            self.directory, ambient=self.ambient, master_key=master_key, build=build,
            log_id=log_id, writer_of=writer_of, writer=InlineExecutor(), readers=InlineExecutor(),
        )  # fmt: skip

    async def crash(self) -> None:
        image = next(self._directories)
        shutil.copytree(self.directory, image, ignore=shutil.ignore_patterns("*-shm"))
        self.writer.halt("the power is gone")
        await self.log.close()
        self.directory = image

    def tables(self) -> dict[str, Any]:
        store = self.log.store
        assert isinstance(store, SqliteStore)
        execute = store.connection.execute
        streams = dict(execute("SELECT id, name FROM stream").fetchall())
        store_reads = self.log._reads  # noqa: SLF001  the engine's reads
        upto = self.log.position
        return {
            "events": store_reads.events(LOG_STREAM, 0, upto, upto, 1 << 40) if upto else [],
            "pruned": store_reads.tombstones(0, upto, upto),
            "firsts": dict(execute("SELECT name, first FROM stream WHERE first > 1").fetchall()),
            "ended": sorted(streams[number] for (number,) in execute("SELECT stream FROM ended")),
            "commands": {
                (key := CommandKey(*row[:3])): (CommandRecord(key, *row[3:7]), row[7])
                for row in execute("SELECT * FROM command")
            },
            "counters": {name: following for name, following, _ in execute("SELECT * FROM counter")},
            "keys": {owner: wrapped for owner, wrapped, _ in execute("SELECT * FROM data_key")},
            "sealed": {(owner, name): box for owner, name, box, _ in execute("SELECT * FROM sealed")},
            "blobs": {id_: (refs, packed) for id_, refs, packed, _ in execute("SELECT * FROM blob")},
            "rows": {
                (table, part, key): value
                for table, part, key, value, _ in execute("SELECT * FROM projection")
            },
            "acks": {row[:3]: row[3] for row in execute("SELECT user, client, stream, seq FROM ack")},
            "shared": load_shared(get_meta(store.connection, SHARED_KEY) or b""),
            "passed": [Passed(*row[:3]) for row in execute("SELECT * FROM passed ORDER BY offset")],
        }


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

    async def pass_s(self, seconds: float) -> None:
        """Let time go by on every node."""
        for _ in range(round(seconds / STEP_S)):
            for node in self.nodes:
                node.ambient.advance(STEP_S)
            await asyncio.sleep(STEP_S)

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
