"""The engines behind `huahuo.eventstore.port`, each with a way to open, crash and look into it.

A contract test takes an `Engine` and does not know which; a new engine adds a factory here.
"""

import asyncio
import functools
import itertools
import random
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.model import Append, CommandKey, CommandRecord, Joined, NewEvent, Page
from huahuo.eventstore.port import Log
from huahuo.eventstore.replicated.opening import open_replica
from huahuo.eventstore.sqlite.log import SqliteLog
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.patience import WITHIN_S

MASTER_KEY = bytes(range(32))


class Engine(Protocol):
    """One place for a log, and the clock of the logs opened there."""

    ambient: FakeAmbient

    async def open(self, *, master_key: bytes = MASTER_KEY, build: str = "test-1") -> StoreLog:
        """Open the log that lies there."""
        ...

    async def crash(self, log: StoreLog) -> None:
        """Take `log` away in the middle; what a crash leaves is what the next `open` finds."""
        ...


class MemoryEngine:
    """The in-memory engine over a model disk."""

    def __init__(self, seed: int = 1) -> None:
        self.ambient = FakeAmbient(seed)
        self.disk = ModelDisk()
        self.chance = random.Random(seed)

    async def open(self, *, master_key: bytes = MASTER_KEY, build: str = "test-1") -> StoreLog:
        return await MemoryLog.open(self.disk, ambient=self.ambient, master_key=master_key, build=build)

    async def crash(self, log: StoreLog) -> None:
        self.disk.crash(self.chance)


class SqliteEngine:
    """The SQLite engine in a directory. A crash is a copy of the files as they are at that moment."""

    def __init__(self, root: Path) -> None:
        self.ambient = FakeAmbient(1)
        self._directories = (root / f"log-{number}" for number in itertools.count())
        self.directory = next(self._directories)

    async def open(self, *, master_key: bytes = MASTER_KEY, build: str = "test-1") -> StoreLog:
        return await SqliteLog.open(self.directory, ambient=self.ambient, master_key=master_key, build=build)

    async def crash(self, log: StoreLog) -> None:
        image = next(self._directories)
        shutil.copytree(self.directory, image, ignore=shutil.ignore_patterns("*-shm"))
        await log.close()
        self.directory = image


class ReplicaEngine(MemoryEngine):
    """The in-memory engine as the one replica of an ordered log, which a crash leaves as it is."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self.order = MemoryOrder()

    async def open(self, *, master_key: bytes = MASTER_KEY, build: str = "test-1") -> StoreLog:
        engine = functools.partial(
            MemoryLog.open, self.disk, ambient=self.ambient, master_key=master_key, build=build
        )
        return await open_replica(
            engine, ambient=self.ambient, master_key=master_key,
            sequencer=MemorySequencer(self.order), node="one",
        )  # fmt: skip


def make_engine(name: str, root: Path) -> Engine:
    """An engine by its name, empty."""
    if name == "replica":
        return ReplicaEngine()
    return MemoryEngine() if name == "memory" else SqliteEngine(root)


LONE_ENGINES = ("memory", "sqlite")
ENGINES = (*LONE_ENGINES, "replica")


@asynccontextmanager
async def opened(engine: Engine) -> AsyncIterator[StoreLog]:
    """The engine's log, closed at the end."""
    log = await engine.open()
    try:
        yield log
    finally:
        await log.close()


def looped[**P](test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run an async test on a loop of its own, bounded in time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(WITHIN_S):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


def event(stream: str = "user/1", body: bytes = b"{}", **more: str) -> NewEvent:
    """An event to append."""
    return NewEvent(stream, more.get("type", "happened"), body, entity=more.get("entity", ""))


async def read_joined(
    log: Log | LogReader, stream: str, after: int, *, events_max: int, bytes_max: int = 1 << 20
) -> Joined | None:
    """One page of joined bodies."""
    [joined] = await log.read_joined_pages([Page(stream, after, events_max, bytes_max)])
    return joined


def append(*events: NewEvent, expected: dict[str, int] | None = None) -> Append:
    """An append of `events`."""
    return Append(ts_ms=1_790_000_000_000, events=events, expected=expected or {})


def command(
    id_: str, *events: NewEvent, fingerprint: bytes = b"f", reply: bytes = b'{"type":"success"}'
) -> Append:
    """An append that carries the record of command `id_`."""
    record = CommandRecord(
        command_key(id_), fingerprint, reply, at_stream=events[-1].stream if events else ""
    )
    return Append(ts_ms=1_790_000_000_000, events=events, command=record, command_id=id_)


def command_key(id_: str) -> CommandKey:
    """The key that `command` uses."""
    return CommandKey("user/1", "dev-1", id_)
