"""How many events a second does the log alone make durable, by batch and by how many append at once?

The guess before the first run: with 256 appends in flight the log is at more than half of what raw
SQLite takes in batches, because numbering and hashing cost about as much as the insert; a lone append
costs about twice a bare commit, for the two changes of thread; ten times pyeventsourcing's recorder,
which has a transaction for each append.

`raw sqlite` is the same file system, PRAGMAs, tables and rows: one `executemany` and one COMMIT a batch,
no numbering, no hash chain, no loop. Disks are noisy: compare within a run, never between runs.
"""

import asyncio
import contextlib
import functools
import importlib.util
import sqlite3
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self

from bench.sheets import OURS, Metric, Options, Sheet, quantile
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.changes import INSERT_EVENT
from huahuo.eventstore.sqlite.connections import connect_writer
from huahuo.eventstore.sqlite.log import SqliteLog, prepare

RAW, EVENTSOURCING = "raw sqlite", "eventsourcing"
STREAMS = 1000
BODY = b'{"type":"check_progress","email_id":17,"progress":75,"message":"%s"}' % (b"x" * 188)
_THREADS = 16
BATCHES = (1, 100, 1000)
CALLERS = (16, 256)
METRICS = (
    Metric("events", "1/s", compare=True),
    Metric("p50", "ms", higher_is_better=False),
    Metric("p99", "ms", higher_is_better=False, compare=True),
)


class Appender(Protocol):
    """A place that makes events durable."""

    async def append(self, first: int, count: int) -> None:
        """Return when the events number `first` … are durable, together where it can do that."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class Ours:
    """The log itself, as an application opens it."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    @classmethod
    async def open(cls, folder: Path) -> Self:
        """An empty log."""
        log = await SqliteLog.open(folder, ambient=SystemAmbient(), master_key=bytes(32), build="bench")
        return cls(log)

    async def append(self, first: int, count: int) -> None:
        """See `Appender`."""
        events = tuple(
            NewEvent(f"user/{n % STREAMS}", "check_progress", BODY, 1, f"mailbox/{n % STREAMS}")
            for n in range(first, first + count)
        )
        await self._log.append(Append(ts_ms=0, events=events, principal="user/42"))

    async def close(self) -> None:
        """See `Appender`."""
        await self._log.close()


class Raw:
    """SQLite alone: the same rows and settings, and a unique index by stream and seq as such tables have."""

    def __init__(self, path: Path) -> None:
        self._connection = connect_writer(path)
        self._connection.execute("BEGIN")
        prepare(self._connection)
        self._connection.execute("CREATE UNIQUE INDEX raw_by_seq ON event (stream, seq)")
        self._connection.execute("COMMIT")
        self._position = 0
        self._batches = 0

    async def append(self, first: int, count: int) -> None:
        """See `Appender`."""
        del first
        rows = self._rows(count)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(INSERT_EVENT, rows)
        self._connection.execute("COMMIT")
        self._batches += 1
        if self._batches % 64 == 0:  # as the log empties its own in parallel with its commits
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    async def close(self) -> None:
        """See `Appender`."""
        self._connection.close()

    def _rows(self, count: int) -> Iterator[tuple[object, ...]]:
        for _ in range(count):
            self._position += 1
            at = self._position
            stream, seq = at % STREAMS, at // STREAMS + 1
            yield (at, stream, seq, 1, 1, 0, f"mailbox/{stream}", "user/42", "", 0, 1, BODY, bytes(32))


class EventSourcing:
    """pyeventsourcing's recorder over a file, one `insert_events` an append, from a pool of threads."""

    def __init__(self, path: Path) -> None:
        from eventsourcing.persistence import StoredEvent
        from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

        self._event = StoredEvent
        self._datastore: Any = SQLiteDatastore(str(path), lock_timeout=60)
        self._recorder: Any = SQLiteApplicationRecorder(self._datastore)
        self._recorder.create_table()
        self._pool = ThreadPoolExecutor(_THREADS)
        self._versions = [0] * STREAMS

    async def append(self, first: int, count: int) -> None:
        """See `Appender`."""
        events = []
        for stream in (n % STREAMS for n in range(first, first + count)):
            self._versions[stream] += 1
            made = uuid.UUID(int=stream), self._versions[stream], "mail:CheckProgress", BODY
            events.append(self._event(*made))
        job = functools.partial(self._recorder.insert_events, events)
        await asyncio.get_running_loop().run_in_executor(self._pool, job)

    async def close(self) -> None:
        """See `Appender`."""
        self._pool.shutdown()
        self._datastore.close()


async def open_appender(case: str, folder: Path) -> Appender:
    """The place called `case`, empty."""
    if case == OURS:
        return await Ours.open(folder / "log")
    return Raw(folder / "raw.db") if case == RAW else EventSourcing(folder / "recorder.db")


def run(options: Options) -> list[Sheet]:
    """See the module."""
    seconds = 0.03 if options.quick else 0.4
    sizes = {f"batches of {n}, one after the other": (n, 1) for n in BATCHES}
    sizes |= {f"{n} appenders of single events": (1, n) for n in CALLERS}
    sheets = {title: Sheet(title, METRICS) for title in sizes}
    cases = [OURS, RAW]
    for sheet in sheets.values():
        sheet.note(
            f"raw sqlite: {sqlite3.sqlite_version}, FULL, WAL; {len(BODY)} byte bodies, {STREAMS} streams"
        )
        if options.wants(EVENTSOURCING) and importlib.util.find_spec(EVENTSOURCING) is None:
            sheet.miss(EVENTSOURCING, "not installed: python -m bench install")
    if options.wants(EVENTSOURCING) and not sheet.absent:
        cases.append(EVENTSOURCING)
    for turn in range(options.rounds):
        folder = options.folder / str(turn)
        folder.mkdir()
        asyncio.run(one_round(cases, folder, seconds, sizes, sheets))
    return list(sheets.values())


async def one_round(
    cases: list[str],
    folder: Path,
    seconds: float,
    sizes: dict[str, tuple[int, int]],
    sheets: dict[str, Sheet],
) -> None:
    """Every size by every place in turn: what is compared meets the same second of the disk."""
    async with contextlib.AsyncExitStack() as stack:
        places = {}
        for case in cases:
            (folder / case).mkdir()
            places[case] = await open_appender(case, folder / case)
            stack.push_async_callback(places[case].close)
        for title, (batch, callers) in sizes.items():
            for case, place in places.items():
                # At best, raw SQLite writes all waiting events as one batch.
                size, at_once = (callers, 1) if case == RAW and callers > 1 else (batch, callers)
                events, took_s, latencies_s = await flood(place, size, at_once, seconds)
                p50, p99 = (quantile(latencies_s, share) * 1e3 for share in (0.5, 0.99))
                sheets[title].add(case, events=events / took_s, p50=p50, p99=p99)


async def flood(place: Appender, batch: int, callers: int, seconds: float) -> tuple[int, float, list[float]]:
    """Append for a while; how many events, in how many seconds, and each append's latency."""
    latencies_s: list[float] = []
    start_s = time.monotonic()
    number = 0

    async def caller() -> None:
        nonlocal number
        while True:
            began_s = time.monotonic()
            if began_s - start_s > seconds and latencies_s:
                return
            first, number = number, number + batch
            await place.append(first, batch)
            latencies_s.append(time.monotonic() - began_s)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return len(latencies_s) * batch, time.monotonic() - start_s, latencies_s
