"""Damage of a log's file: whether its pages are whole, and whether a damaged page hides rows of a table.

Every verdict on a file is made here. `find_damage` continues after the first damage: to decide between a
backup and a salvage, an operator has to know all of it.

A row that is found is held against its checksum. One whose entry in SQLite's own index is damaged is not
found at all: a repeated command would run twice, and a mail or a password would be missing without a word.
At an opening, `meta` and `counter` must be whole and no older copy of themselves. A search that a changed
key misleads ends next to that key: it took the wrong way there, and all other keys led it back. So if a
read finds no row, the entries next to where it would be are compared with their rows. What else may hide a
row, such as a page that has another number of entries, is found by `TableScan`: it looks at every table
once after the start, in parallel with the service. Until a table was looked at, a read waits before it
says that a row is missing.
"""

import asyncio
import contextlib
import functools
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import batched
from pathlib import Path
from typing import Final, Literal

import structlog

from huahuo.eventstore.atomic_file import sync_folder
from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.errors import Corrupt, Damaged, EventStoreError
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.changes import read_passed
from huahuo.eventstore.sqlite.connections import FAULTS, connect_reader, connect_writer, snapshot, translated
from huahuo.eventstore.sqlite.directory_lock import Left
from huahuo.eventstore.sqlite.mark import Mark
from huahuo.eventstore.sqlite.names import Naming, read_naming
from huahuo.eventstore.sqlite.schema import SUMMED, fitting, get_meta, must_fit, row_crc, tables
from huahuo.eventstore.sqlite.seq_index import walk

FIRST_TABLES = ("meta", "name", "stream", "counter")
"""What an opening reads as a whole: a lost row here would let numbers or names be given out again."""
SUMS_LOOKED_AT = frozenset({"ack", "usage"})
"""Tables whose rows are also held against their checksums: a read that finds no row cannot know whether one
with a damaged key was it."""
_SMALL = frozenset({"meta", "counter"})
"""Tables of a few rows: each row is compared with SQLite's index, too."""
_TOLD_MAX = 100
"""SQLite stops after this many faults of a table. Then there may be worse ones that it did not report."""
_REASONS_MAX = 3
"""At most this many of them are in a sentence."""
_HIDES_NOTHING = re.compile(r"non-|NULL value in|NUMERIC|TEXT value in|Fragmentation of")
"""How SQLite's words begin for a fault inside a row, or in the free space of a page. Every table in
`SCANNED_TABLES` has an index, so a row that a page lost is told in other words as well."""


def check_first(connection: sqlite3.Connection) -> None:
    """Raises Corrupt for the first of `FIRST_TABLES` of which a page is damaged. A new file has none."""
    made = tables(connection)
    for table in FIRST_TABLES:
        if table in made:
            pragma = "integrity_check" if table in _SMALL else "quick_check"
            if said := faults_said(connection, f"PRAGMA {pragma}('{table}')"):
                raise corrupt_table(f"table {table}", said)


def damage_of(connection: sqlite3.Connection, table: str) -> Corrupt | None:
    """Compare every row of `table` with SQLite's indexes.

    The place is `table …` if the damage can hide rows, else another.
    """
    said = faults_said(connection, f"PRAGMA integrity_check('{table}')")
    if not said:
        if table in SUMS_LOOKED_AT and any(_row_damages(connection, table)):
            return Corrupt(rows_of(table), "some do not fit their checksum")
        return None
    hiding = [line for line in said if not _HIDES_NOTHING.match(line)]
    if not hiding and len(said) < _TOLD_MAX:
        return corrupt_table(f"a row of table {table}", said)
    return corrupt_table(f"table {table}", hiding or said)


def index_of(table: str) -> str:
    """The place of damage that is in an index of `table` alone."""
    return f"index of table {table}"


def rows_of(table: str) -> str:
    """The place of damage that is in rows of `table`, whose pages are whole."""
    return f"rows of table {table}"


def faults_said(connection: sqlite3.Connection, pragma: str) -> list[str]:
    """All faults that SQLite tells: it puts several into a row of its answer, below a title."""
    lines: list[str] = []
    try:
        for (text,) in connection.execute(pragma):
            lines += text.splitlines()
    except sqlite3.DatabaseError as error:  # it is no page of a table
        if not isinstance(translated(error), Corrupt):
            raise
        if not lines:
            lines.append(str(error))
    return [line for line in lines if line != "ok" and not line.startswith("***")]


def corrupt_table(place: str, said: list[str]) -> Corrupt:
    """Damage at `place`, in the first of SQLite's words."""
    more = f" (and {len(said) - _REASONS_MAX} more)" if len(said) > _REASONS_MAX else ""
    return Corrupt(place, "; ".join(said[:_REASONS_MAX]) + more)


_ROW_KEYS = {
    "command": ("user", "client", "id"), "projection": ("tbl", "part", "key"), "sealed": ("owner", "name"),
    "data_key": ("owner",),
}  # fmt: skip
_SIDES = (("<", "DESC"), (">", "ASC"))
_KEYS_A_STATEMENT = 256


def must_be_absent(
    connection: sqlite3.Connection, table: str, keys: Sequence[tuple[str | bytes, ...]]
) -> None:
    """Call it when the rows of `table` with these keys were not found.

    Each statement of the writer must get the interpreter back, and an import has thousands of new owners. So
    many are asked for in few statements.

    Raises:
        Corrupt: the index may hide one.
    """
    for some in batched(keys, _KEYS_A_STATEMENT):
        values = [value for key in some for value in key]
        if connection.execute(_neighbours_sql(table, len(some)), values).fetchone() is not None:
            raise Corrupt(index_of(table), "an entry is not the key of its row")


@functools.lru_cache(maxsize=64)
def _neighbours_sql(table: str, count: int) -> str:
    """Finds an entry of SQLite's index next to one of `count` keys that is not the key of its row."""
    columns = _ROW_KEYS[table]
    key, asked = ", ".join(columns), ", ".join(f"asked.{column}" for column in columns)
    nearest = [
        ", ".join(
            f"(SELECT {column} FROM {table} WHERE ({key}) {side} ({asked})"  # noqa: S608  constants
            f" ORDER BY {', '.join(f'{one} {way}' for one in columns)} LIMIT 1)"
            for column in (*columns, "rowid")
        )
        for side, way in _SIDES
    ]
    sides = " UNION ALL ".join(f"SELECT {side} FROM asked" for side in nearest)  # noqa: S608  constants
    row = f"({', '.join('?' * len(columns))})"
    return (
        f"WITH asked ({key}) AS (VALUES {', '.join([row] * count)}), near ({key}, at) AS ({sides})"  # noqa: S608
        f" SELECT 1 FROM near LEFT JOIN {table} AS found ON found.rowid = near.at"
        f" WHERE {' OR '.join(f'found.{column} IS NOT near.{column}' for column in columns)} LIMIT 1"
    )


def sum_of_counters(counters: Mapping[str, int]) -> str:
    """A checksum of all counters. Each row of an old copy of their page fits its own, but not this one."""
    return f"{row_crc('counters', *(value for row in sorted(counters.items()) for value in row)):08x}"


def check_small(path: Path, marks: Sequence[Mark], left: Left) -> None:
    """Hold the counters against what the last close noted, or else against `log.mark`.

    Raises:
        Corrupt: a page or a row is not what was written, or the counters are older than the log's end.
    """
    with contextlib.closing(connect_reader(path)) as connection:
        if "counter" not in tables(connection):
            return  # a first start was cut off
        check_first(connection)
        counters = read_counters(connection)
        log_id = (get_meta(connection, "log") or b"").decode(errors="replace")
    if not left.pid and left.counters:
        is_older = sum_of_counters(counters) != left.counters
    else:
        noted = max((mark.counters for mark in marks if mark.log_id == log_id), default=0)
        is_older = sum(counters.values()) < noted
    if is_older:
        raise Corrupt("table counter", "it is older than the log's end")


def read_counters(connection: sqlite3.Connection) -> dict[str, int]:
    """The next number of each counter. Raises Corrupt: a row does not fit its checksum."""
    return dict(fitting("counter", connection.execute("SELECT name, next, crc FROM counter")))


SCANNED_TABLES = ("projection", "data_key", "command", "ack", "usage", "sealed", "keyframe", "blob")
"""What is asked for row by row, looked at in parallel with the service: 2 µs a row and a read of each page.

First what a start reads, then what the first commands ask for. A command that waits for the records also
waits for the keys, because an owner must not get a second key. Last the contents, which may take minutes.
"""
HOLD_S = {"projection": 2.0, "command": 10.0}
"""Seconds after the start for which lists of rows, and groups with commands, wait for the look at these."""
_STEPS_BETWEEN_LOOKS = 100_000
"""SQLite's steps after which it asks whether the log is being closed: some milliseconds."""
_STOP_AGAIN_S = 0.05
"""An interrupt that came just before a statement began does nothing: it is repeated after this time."""


class TableScan:
    """One look at all `SCANNED_TABLES`, by an executor that it closes. Damage is an alarm, and 503."""

    def __init__(self, path: Path, corruption: Corruption, executor: Executor) -> None:
        self._path = path
        self._corruption = corruption
        self._executor = executor
        self._passed = {table: asyncio.Event() for table in SCANNED_TABLES}
        self._hold_until = {
            table: asyncio.get_running_loop().time() + seconds for table, seconds in HOLD_S.items()
        }
        self._ending = False
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._task = asyncio.create_task(self._run(), name="look at the rows")

    async def passed(self, table: str) -> None:
        """Wait until `table` was looked at, at most until `HOLD_S` after the start."""
        passed = self._passed[table]
        if not passed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._hold_until[table]):
                    await passed.wait()

    def then(self, call: Callable[[], None]) -> None:
        """Call `call` when it has ended."""
        self._task.add_done_callback(lambda _: call())

    async def finished(self) -> None:
        """Wait until all is looked at."""
        await self._task

    async def stop(self) -> None:
        """End it, within milliseconds also in the middle of a table or of a large tree of pages."""
        self._ending = True
        try:
            while not self._task.done():
                self._interrupt()
                await asyncio.wait({self._task}, timeout=_STOP_AGAIN_S)
            await self._task
        finally:
            self._executor.close(wait=False)

    def _interrupt(self) -> None:
        """SQLite's progress handler is hardly called while it walks pages; an interrupt is seen at each."""
        with self._lock:
            if self._connection is not None:
                self._connection.interrupt()

    async def _run(self) -> None:
        try:
            for table in SCANNED_TABLES:
                if self._ending:
                    return
                await self._look_at(table)
                self._passed[table].set()
        finally:
            for passed in self._passed.values():
                passed.set()

    async def _look_at(self, table: str) -> None:
        try:
            found = await self._executor.run(functools.partial(self._look, table))
        except Corrupt as error:
            found = error
        except EventStoreError as error:  # it is being stopped, or the file cannot be read now
            if not self._ending:
                _log.warning("rows_not_looked_at", table=table, reason=str(error))
            return
        if found is not None:
            self._corruption.note(found)

    def _look(self, table: str) -> Corrupt | None:
        """A connection of its own for each table, so that no snapshot is kept for longer than one takes."""
        try:
            with contextlib.closing(connect_reader(self._path)) as connection:
                connection.set_progress_handler(lambda: self._ending, _STEPS_BETWEEN_LOOKS)
                with self._lock:
                    self._connection = connection
                try:
                    return damage_of(connection, table)
                finally:
                    with self._lock:
                        self._connection = None
        except sqlite3.Error as error:
            raise translated(error, f"table {table}") from None


COPY: Final = "log.db.copying"
"""A copy without free pages that is not complete yet. One that was left is removed at the next start."""
_COPYING_PAGES: Final = 256
"""Pages in memory while they are copied: 2 MiB, since each is read once."""

_log = structlog.get_logger(__name__)


def page_faults(
    connection: sqlite3.Connection, check: Literal["quick_check", "integrity_check"], most: int
) -> list[str]:
    """At most `most` faults of the file's pages."""
    return faults_said(connection, f"PRAGMA {check}({most})")[:most]


def _faults_by_table(
    connection: sqlite3.Connection, check: Literal["quick_check", "integrity_check"], most: int
) -> dict[str, list[str]]:
    """The faults of the file's pages, "" for those that are in no table; in all about `most`."""
    everywhere = page_faults(connection, check, most)
    found = {
        table: faults
        for table in sorted(tables(connection) if everywhere else ())
        if (faults := faults_said(connection, f"PRAGMA {check}('{table}')"))
    }
    return found or ({"": everywhere} if everywhere else {})


def check_pages(connection: sqlite3.Connection) -> None:
    """Look at every page of the file. Damage in a table that is looked at otherwise is passed over.

    Raises:
        Damaged: another page is damaged.
    """
    for table, faults in _faults_by_table(connection, "quick_check", 1).items():
        if table not in SCANNED_TABLES:
            raise Damaged(0, faults[0])


def give_free_pages_back(path: Path) -> str:
    """Copy the database without free pages, in place of it. Returns why not, else "".

    No other connection may be open. It takes room on the disk for a second file, and no memory.
    """
    copy = path.with_name(COPY)
    try:
        with contextlib.closing(connect_writer(path)) as connection:
            if faults := page_faults(connection, "integrity_check", 1):
                return f"a page is damaged: {faults[0]}"
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            copy.unlink(missing_ok=True)
            os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            connection.execute(f"PRAGMA cache_size={_COPYING_PAGES}")
            connection.execute("VACUUM INTO ?", (str(copy),))
        if path.with_name(f"{path.name}-wal").exists():
            return "another process reads the file"
        put_in_place(copy, path)
    except (sqlite3.Error, OSError) as error:
        _log.warning("pages_stay", path=str(path), error=str(error))
        return str((isinstance(error, OSError) and error.strerror) or error)
    finally:
        copy.unlink(missing_ok=True)
    return ""


def put_in_place(copy: Path, path: Path) -> None:
    """Replace the file by its copy, with the same owner and durably. Raises OSError."""
    of = path.stat()
    file = os.open(copy, os.O_RDWR)
    try:
        os.fchown(file, of.st_uid, of.st_gid)
        os.fsync(file)
    finally:
        os.close(file)
    copy.rename(path)
    sync_folder(path.parent)


DAMAGES_MAX = 20
"""At most this many are listed."""
_LINES_MAX = 5
"""At most this many faults of a table are reported."""


def find_damage(path: Path) -> list[str]:
    """Check every page, row and event of the database `path`, which may be in use: a sentence a fault."""
    found: list[str] = []
    try:
        with contextlib.closing(connect_reader(path)) as connection:
            for damage in _damages(connection):
                found.append(damage)
                if len(found) >= DAMAGES_MAX:
                    break
    except FAULTS as error:
        found.append(f"the log's file cannot be read: {error}")
    return found


def check_sums(connection: sqlite3.Connection) -> None:
    """Raises Damaged for the first row that does not fit its checksum, or that the index has false."""
    for table in SUMMED:
        for damage in _row_damages(connection, table):
            raise Corrupt("the log's file", damage)
    for fault in seq_index.damages(connection, read_naming(connection)):
        raise fault


def _damages(connection: sqlite3.Connection) -> Iterator[str]:
    yield from _page_damages(connection)
    try:
        naming = read_naming(connection)
    except (Corrupt, *FAULTS) as error:
        yield f"the names of streams and types: {error}"
        return  # nothing else can be judged without them
    for table in SUMMED:
        yield from _row_damages(connection, table)
    yield from _event_damages(connection, naming)
    try:
        for fault in seq_index.damages(connection, naming):
            yield f"the index: position {fault.position}, {fault.reason}"
    except FAULTS as error:
        yield f"the index: {error}"
    yield from _passed_damages(connection)


def _page_damages(connection: sqlite3.Connection) -> Iterator[str]:
    """What SQLite says of the pages, table by table."""
    for table, faults in _faults_by_table(connection, "integrity_check", DAMAGES_MAX).items():
        where = f"table {table}: " if table else ""
        yield f"a page of the file: {where}{'; '.join(faults[:_LINES_MAX])}"


def _row_damages(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    """The rows of `table` that do not fit their checksum."""
    columns = ", ".join(SUMMED[table])
    count = 0
    try:
        for *values, crc in connection.execute(f"SELECT {columns}, crc FROM {table}"):  # noqa: S608
            count += 1
            try:
                must_fit(crc, table, *values)
            except Corrupt as error:
                yield str(error)
    except FAULTS as error:
        yield f"table {table} behind its row {count}: {error}"


def _event_damages(connection: sqlite3.Connection, naming: Naming) -> Iterator[str]:
    """The events that do not fit the chain."""
    position = 0
    try:
        for one in walk(connection, 0, naming):
            if one.position != position + 1:
                yield f"event at position {position + 1}: lost"
            position = one.position
            if not one.fits:
                where = f"event {one.seq} of stream {naming.streams.get(one.stream)} (position {position})"
                yield f"{where}: it does not fit the hash chain"
    except FAULTS as error:
        yield f"events behind position {position}: {error}"


def _passed_damages(connection: sqlite3.Connection) -> Iterator[str]:
    """Of a node's replica: what it says that it has applied. In one snapshot, since its node may go on."""
    try:
        with snapshot(connection):
            read_passed(connection)
    except Corrupt as error:
        yield str(error)
    except FAULTS as error:
        yield f"table passed: {error}"
