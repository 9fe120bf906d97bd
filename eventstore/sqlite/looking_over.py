"""A look for rows that a damaged page hides: a read that does not find a row cannot know that it was there.

A row that is found is held against its checksum. One whose entry in SQLite's own index is damaged is not
found at all: a repeated command would run twice, and a mail or a password would be missing without a word.
"""

import asyncio
import contextlib
import functools
import re
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from huahuo.eventstore.core.sums import row_crc
from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.errors import MISREAD, Corrupt, EventStoreError
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.sqlite.faults import text_of, translated
from huahuo.eventstore.sqlite.schema import SUMMED, connect_reader

_log = structlog.get_logger(__name__)

FIRST = ("meta", "name", "stream", "counter")
"""What an opening reads as a whole: a lost row here would let numbers or names be given out again."""
TWICE = {"name": "the table of type names", "stream": "the table of stream names"}
"""Of these every row is in an index as well: `naming` finds it there. With the place of their damage."""
LATER = ("projection", "data_key", "command", "ack", "usage", "sealed", "keyframe", "blob")
"""What is asked for row by row, looked at in parallel with the service: 2 µs a row and a read of each page.

First what a start reads, then what the first commands ask for. A command that waits for the records also
waits for the keys, because an owner must not get a second key. Last the contents, which may take minutes.
"""
DERIVED = {
    "keyframe": "states are folded again",
    "ack": "clients tell where they are",
    "usage": "the events of users are counted again, and their contents from now on",
}
"""Those of them that are made anew, empty, if a page is damaged: what they hold comes again by itself. Writes
to a damaged page are refused, and any group of appends may write to these."""
SUMS_LOOKED_AT = frozenset({"ack", "usage"})
"""Those of them whose rows are also held against their checksums, and deleted where they do not fit: a read
that finds no row cannot know whether one with a damaged key was it."""
SALVAGED = frozenset({"projection", "data_key", "command", "sealed"})
"""Those that are made again from their rows and the keys in their index."""
HOLD_S = {"projection": 2.0, "command": 10.0}
"""Seconds after the start for which lists of rows, and groups with commands, wait for the look at these."""
_SMALL = frozenset({"meta", "counter"})
"""Tables of a few rows: each row is compared with SQLite's index, too."""
_STEPS_BETWEEN_LOOKS = 100_000
"""SQLite's steps after which it asks whether the log is being closed: some milliseconds."""
_STOP_AGAIN_S = 0.05
"""An interrupt that came just before a statement began does nothing: it is repeated after this time."""
_TOLD_MAX = 100
"""SQLite stops after this many faults of a table. Then there may be worse ones that it did not report."""
_REASONS_MAX = 3
"""At most this many of them are in a sentence."""
_LACKS_ROW = re.compile(r"row \d+ missing from index")
_OF_TREE = re.compile(r"Tree (\d+) page")
_WRONG_COUNT = re.compile(r"wrong # of entries in index")
_HIDES_NOTHING = re.compile(r"non-|NULL value in|NUMERIC|TEXT value in|Fragmentation of")
"""How SQLite's words begin for a fault inside a row, or in the free space of a page. Every table in `LATER`
has an index, so a row that a page lost is told in other words as well."""


def check_first(connection: sqlite3.Connection) -> dict[str, Corrupt]:
    """As `damage_first`, of the tables in `TWICE`. Raises Corrupt for another one."""
    torn = damage_first(connection)
    for table, damage in torn.items():
        if table not in TWICE:
            raise damage
    return torn


def damage_first(connection: sqlite3.Connection) -> dict[str, Corrupt]:
    """Those of the tables in `FIRST` that have a damaged page. In a new file there are none yet."""
    torn: dict[str, Corrupt] = {}
    made = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table in FIRST:
        if table in made:
            pragma = "integrity_check" if table in _SMALL else "quick_check"
            said = faults_said(connection, f"PRAGMA {pragma}('{table}')")
            if said:
                torn[table] = corrupt(TWICE.get(table, f"table {table}"), said)
    return torn


def damage_of(connection: sqlite3.Connection, table: str) -> Corrupt | None:
    """Compare every row of `table` with SQLite's indexes.

    The place is `table …` if the damage can hide rows, `index_of` if only its index is damaged, else another.
    """
    said = faults_said(connection, f"PRAGMA integrity_check('{table}')")
    if not said:
        if table in SUMS_LOOKED_AT and has_misfits(connection, table):
            return Corrupt(rows_of(table), "some do not fit their checksum")
        return None
    hiding = [line for line in said if not _HIDES_NOTHING.match(line)]
    if not hiding and len(said) < _TOLD_MAX:
        return corrupt(f"a row of table {table}", said)
    if _only_of_indexes(connection, said) and (table not in SUMMED or not has_misfits(connection, table)):
        return corrupt(index_of(table), hiding)
    return corrupt(f"table {table}", hiding or said)


def _only_of_indexes(connection: sqlite3.Connection, said: list[str]) -> bool:
    """Whether all that SQLite said is about indexes. It tells of pages before rows.

    A wrong number of entries alone may as well mean that the table lost a row. To make the index again would
    hide that. If a page of the index is none any more, that explains the number.
    """
    found = connection.execute("SELECT rootpage FROM sqlite_master WHERE type = 'index'").fetchall()
    roots = {root for (root,) in found}
    broken = False
    for line in said:
        tree = _OF_TREE.match(line)
        if tree is not None and int(tree[1]) in roots:
            broken = True
        elif not _LACKS_ROW.match(line) and not (broken and _WRONG_COUNT.match(line)):
            return False
    return True


def has_misfits(connection: sqlite3.Connection, table: str) -> bool:
    """Whether a row of `table` does not fit its checksum, or the rows cannot be read.

    Its own key may be what is damaged. Then its place in the index is right, and must stay.
    """
    columns = ", ".join(SUMMED[table])
    before, connection.text_factory = connection.text_factory, text_of
    try:
        rows = connection.execute(f"SELECT {columns}, crc FROM {table} NOT INDEXED")  # noqa: S608  constants
        return any(crc is not None and row_crc(table, *values) != crc for *values, crc in rows)
    except (sqlite3.Error, *MISREAD):
        return True
    finally:
        connection.text_factory = before


def none_was_pruned(connection: sqlite3.Connection) -> bool:
    """Whether the table of events has one at every position."""
    try:
        count, last = connection.execute("SELECT count(*), max(position) FROM event").fetchone()
    except sqlite3.Error:
        return False
    return bool(count == (last or 0))


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


def corrupt(place: str, said: list[str]) -> Corrupt:
    """Damage at `place`, in the first of SQLite's words."""
    more = f" (and {len(said) - _REASONS_MAX} more)" if len(said) > _REASONS_MAX else ""
    return Corrupt(place, "; ".join(said[:_REASONS_MAX]) + more)


class LookingOver:
    """One look at all tables in `LATER`, by an executor that it closes. Damage is an alarm, and 503.

    Where only an index is damaged, `mend` makes it again; where a page of a table is, `salvage` makes that
    again from its index, and says how many rows are lost. `mend` is told whether the pages are whole.
    """

    def __init__(
        self,
        path: Path,
        corruption: Corruption,
        executor: Executor,
        mend: Callable[[str, bool], Awaitable[None]],
        salvage: Callable[[str], Awaitable[int]],
    ) -> None:
        self._path = path
        self._corruption = corruption
        self._executor = executor
        self._mend = mend
        self._salvage = salvage
        self._passed = {table: asyncio.Event() for table in LATER}
        self._hold_until = {
            table: asyncio.get_running_loop().time() + seconds for table, seconds in HOLD_S.items()
        }
        self._ending = False
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._task = asyncio.create_task(self._run(), name="look at the rows")

    async def passed(self, table: str) -> None:
        """Wait until `table` was looked at and mended, at most until `HOLD_S` after the start."""
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
        """End it, within milliseconds also in the middle of a table or of a large tree of pages.

        Only indexes that are just made again are waited for: 2 µs a row.
        """
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
            for table in LATER:
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
            if found is not None and (found.place == index_of(table) or table in DERIVED):
                found = await self._mended(table, found)
            elif found is not None and table in SALVAGED and found.place == f"table {table}":
                found = await self._salvaged(table, found)
        except Corrupt as error:
            found = error
        except EventStoreError as error:  # it is being stopped, or the file cannot be read now
            if not self._ending:
                _log.warning("rows_not_looked_at", table=table, reason=str(error))
            return
        if found is not None:
            self._corruption.note(found)

    async def _mended(self, table: str, found: Corrupt) -> Corrupt:
        """Make `table` or its indexes again. What is said of it after that."""
        try:
            await self._mend(table, found.place == rows_of(table))
            left = await self._executor.run(functools.partial(self._look, table))
        except EventStoreError as error:
            return Corrupt(f"table {table}", f"{found.reason}; it cannot be made again: {error}")
        if left is None and found.place == rows_of(table):
            return Corrupt(found.place, f"{found.reason}; they were deleted: {DERIVED[table]}")
        if left is None:
            then = f" anew: {DERIVED[table]}" if table in DERIVED else " again"
            return Corrupt(found.place, f"{found.reason}; it was made{then}")
        return Corrupt(f"table {table}", left.reason)

    async def _salvaged(self, table: str, found: Corrupt) -> Corrupt:
        """Make `table` again from what can be read of it. What is said of it after that."""
        try:
            lost = await self._salvage(table)
            left = await self._executor.run(functools.partial(self._look, table))
        except EventStoreError as error:
            return Corrupt(found.place, f"{found.reason}; it cannot be made again from its index: {error}")
        if left is not None:
            return left
        if not lost:
            return Corrupt(index_of(table), f"{found.reason}; it was made again")
        rows = "one row of it is" if lost == 1 else f"{lost} rows of it are"
        return Corrupt(rows_of(table), f"{found.reason}; it was made again, but {rows} lost")

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
