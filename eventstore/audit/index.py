"""The audit index: who, what, when and why of every event, with full text, in a database of its own.

    DIR/audit.db      event: one row per event, indexed by each question · event_fts: its full text
                      stretch: which positions to search for a time
                      meta: the id of the log, and the (position, chain) up to which it was read

It is a projection: if it is deleted, it is rebuilt from the log. It never touches the log's own files,
so it does not affect the writer. Any process may bring it forward: each batch is one transaction, which
first reads how far the others came.

`Audit` follows the log's head and answers questions (`Where`); `METADATA` is what Datasette shows of the
index.
"""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
import structlog

from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.audit import tables
from huahuo.eventstore.audit.tables import (
    DROP_TEXT,
    EXACT,
    PUT_TEXT,
    ROW,
    Row,
    columns_of,
    facts_of,
    match_of,
    open_tables,
    searched,
    word,
)
from huahuo.eventstore.core.reader import LogReader, is_receipt, read_receipt
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.eventstore.executor import Executor, ThreadExecutor
from huahuo.eventstore.limits import PAGE_ROWS_MAX
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.eventstore.model import Page as LogPage

if TYPE_CHECKING:
    import sqlite_utils

COUNTED_MAX = 5_000
"""At most this many matches are counted and sorted into facets; beyond it the count is `more than` this."""

FACETS = ("type", "stream", "principal", "entity")
_FACET_VALUES = 10


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """A query: every field that is given must match. Times are RFC 3339 UTC, both ends included."""

    stream: str = ""
    types: tuple[str, ...] = ()
    principal: str = ""
    entity: str = ""
    command_id: str = ""
    since: str = ""
    until: str = ""
    text: str = ""

    def described(self) -> dict[str, object]:
        """The query as it is recorded: only the fields that were given."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if value}


class Counted(msgspec.Struct, frozen=True):
    """How many events match (`exact`, or more than that), and the commonest values among them."""

    count: int
    exact: bool
    facets: dict[str, dict[str, int]]


def find(connection: sqlite3.Connection, where: Where, after: int, upto: int, limit: int) -> list[Row]:
    """The first `limit` matches at positions in (after, upto], ascending.

    Raises:
        ValueError: the text to search for is empty or malformed.
    """
    found = _select(connection, ROW, where, after, upto, limit)
    names = Row.__struct_fields__
    return [
        Row(**dict(zip(names, row, strict=True)) | {"data": msgspec.Raw(str(row[-1]).encode())})
        for row in found
    ]


def count(connection: sqlite3.Connection, where: Where, upto: int) -> Counted:
    """Count the matches (at most `COUNTED_MAX`) and their commonest values in each of `FACETS`.

    Raises:
        ValueError: as `find`.
    """
    columns = ", ".join(f"event.{name}" for name in FACETS)
    found = _select(connection, columns, where, 0, upto, COUNTED_MAX + 1)
    exact, found = len(found) <= COUNTED_MAX, found[:COUNTED_MAX]
    tallies = {name: Counter(row[n] for row in found) for n, name in enumerate(FACETS)}
    common = {name: tally.most_common(_FACET_VALUES) for name, tally in tallies.items()}
    facets = {name: {value: n for value, n in best if value} for name, best in common.items()}
    return Counted(len(found), exact, facets)


def _select(
    connection: sqlite3.Connection, columns: str, where: Where, after: int, upto: int, limit: int
) -> list[tuple[Any, ...]]:
    clauses, values = _clauses(connection, where, after, upto)
    source, order = "event", "position"
    if where.text:
        # The full text gives its matches in the order of positions, so a page of them is enough.
        source, order = "event_fts CROSS JOIN event ON position = event_fts.rowid", "event_fts.rowid"
        clauses = ["event_fts.rowid BETWEEN ? AND ?", *clauses[1:], "event_fts MATCH ?"]
        values.append(_match(where))
    sql = f"SELECT {columns} FROM {source} WHERE {' AND '.join(clauses)} ORDER BY {order} LIMIT ?"  # noqa: S608  ours
    found: list[tuple[Any, ...]] = connection.execute(sql, [*values, limit]).fetchall()
    return found


def _clauses(
    connection: sqlite3.Connection, where: Where, after: int, upto: int
) -> tuple[list[str], list[str | int]]:
    """The conditions on a row. A time becomes a range of positions, so that it costs one look-up."""
    lowest, highest = after + 1, upto
    if where.since:
        sql = "SELECT max(position) FROM stretch WHERE clock < ?"
        lowest = max(lowest, connection.execute(sql, [where.since]).fetchone()[0] or 0)
    if where.until:
        back_ms = int(facts_of(connection).get("back_ms", "0"))
        sql = "SELECT min(position) FROM stretch WHERE clock > ?"
        found = connection.execute(sql, [rfc3339(_ms(where.until) + back_ms)]).fetchone()[0]
        highest = min(highest, upto if found is None else found - 1)
    clauses, values = ["position BETWEEN ? AND ?"], list[str | int]([lowest, highest])
    for column in ("stream", "principal", "entity", "command_id"):
        if asked := getattr(where, column):
            clauses.append(f"event.{column} = ?")
            values.append(asked)
    if where.types:
        clauses.append(f"event.type IN ({', '.join('?' * len(where.types))})")
        values += where.types
    for column, sign in (("since", ">="), ("until", "<=")):
        if asked := getattr(where, column):
            clauses.append(f"timestamp {sign} ?")
            values.append(asked)
    return clauses, values


def _match(where: Where) -> str:
    """The search in the full text, narrowed by its exact columns."""
    parts = [f"data : ({match_of(where.text)})"]
    for column in EXACT:
        asked = where.types if column == "type" else (getattr(where, column),)
        if words := [word(value) for value in asked if value]:
            parts.append(f"{column} : ({' OR '.join(words)})")
    return " AND ".join(parts)


def _ms(time: str) -> int:
    given = datetime.fromisoformat(time) - datetime.fromtimestamp(0, UTC)
    return given // timedelta(milliseconds=1)


DATABASE = "audit.db"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether the file is damaged, not only busy or full. A text that is not UTF-8 comes without a code."""
    code = getattr(error, "sqlite_errorcode", None)
    return "decode" in str(error) if code is None else code & 0xFF in _DAMAGED


PAGE_BYTES_MAX = 4 << 20
_BATCH_EVENTS = 1000
_SETTLE_EVENTS = 20_000

_log = structlog.get_logger(__name__)

type Told = Callable[[int, int], None]
"""Called with the position of the index and that of the log."""


class IndexDamaged(EventStoreError):  # noqa: N818  a state, as `Damaged`
    """The file of the index was damaged. It is empty now, and made again by `catch_up`."""


class AuditPage(msgspec.Struct, frozen=True):
    """Matches by ascending position. `next` is the `after` of the following page, None at the end."""

    rows: list[Row]
    next: int | None


class Audit:
    """Questions to one log. Calls wait for one another: the index has one connection, of one thread."""

    _db: "sqlite_utils.Database"

    def __init__(self, log: LogReader, path: Path | None, executor: Executor) -> None:
        self._log = log
        self._path = path
        self._executor = executor

    @classmethod
    async def open(
        cls, log: LogReader, path: Path | None, executor: Executor | None = None, *, copied: bool = False
    ) -> Self:
        """Use the index at `path` (None: in memory). One of another history, or that lacks rows, is rebuilt.

        An executor that is passed must have one thread. If the file was `copied`, it is checked first.

        Raises:
            EventStoreError: the index cannot be made.
        """
        audit = cls(log, path, executor or ThreadExecutor(1, "audit-index"))
        try:
            await audit._executor.run(audit._open)
        except sqlite3.Error as error:
            audit._executor.close()
            raise EventStoreError(f"the audit index cannot be made: {error}") from None
        try:
            if copied and not await audit._job(audit._has_whole_pages):
                await audit._job(audit._discard)
            elif not await audit._belongs():
                await audit._job(audit._forget)
        except IndexDamaged:  # it is empty now
            pass
        return audit

    async def close(self) -> None:
        """Close the index and the executor."""
        await self._job(self._db.conn.close)
        self._executor.close()

    async def behind(self) -> int:
        """How many positions the index is behind the log."""
        return self._log.position - await self._position()

    async def catch_up(self, events_max: int | None = None, told: Told | None = None) -> bool:
        """Bring the index forward, by about `events_max` events; returns whether it is at the head.

        Raises:
            Closed, Unavailable, Damaged: the log could not be read.
        """
        at, upto, taken = await self._position(), self._log.position, 0
        while at < upto and (events_max is None or taken < events_max):
            page = await self._log.read(LOG_STREAM, at, events_max=_BATCH_EVENTS)
            if not page:
                break
            try:
                await self._job(partial(self._add, page))
            except IndexDamaged:
                at = 0
                continue
            at = page[-1].position
            taken += len(page)
            if told is not None:
                told(at, upto)
        if taken >= _SETTLE_EVENTS:
            await self._job(self._settle)
        return at >= upto

    async def page(
        self, where: Where, *, after: int = 0, upto: int | None = None, limit: int = 100
    ) -> AuditPage:
        """The matches after `after` up to `upto`: at most `limit`, and at most `PAGE_ROWS_MAX`.

        Raises:
            ValueError: the text to search for holds no word, or is malformed.
            IndexDamaged: what can be answered is known only after `catch_up`.
        """
        end = self._log.position if upto is None else upto
        count = max(1, min(limit, PAGE_ROWS_MAX))
        found = await self._job(lambda: find(self._db.conn, where, after, end, count + 1))
        rows = _within(found[:count])
        written = await self._written(rows)
        if wrong := await self._executor.run(lambda: _wrong(rows, written)):
            await self._make_anew(f"its row of the event at {wrong} is not what was written")
        return AuditPage(rows, rows[-1].position if len(rows) < len(found) else None)

    async def count(self, where: Where, *, upto: int | None = None) -> Counted:
        """How many events match, and their commonest values. Raises as `page`."""
        end = self._log.position if upto is None else upto
        return await self._job(lambda: count(self._db.conn, where, end))

    async def _job[T](self, job: Callable[[], T]) -> T:
        try:
            return await self._executor.run(job)
        except sqlite3.Error as error:
            if is_damaged(error):
                await self._make_anew(error)
            raise EventStoreError(f"the audit index cannot be used (it may be deleted): {error}") from None

    async def _written(self, rows: Sequence[Row]) -> list[StoredEvent | None]:
        """The events of these rows, None for one that the log has no more. None for all if one is damaged."""
        asked = [LogPage(LOG_STREAM, row.position - 1, 1, PAGE_BYTES_MAX) for row in rows]
        try:
            pages = await self._log.read_pages(asked)
        except Corrupt:  # the index may have the only good copy
            return [None] * len(rows)
        return [
            page[0] if page and page[0].position == row.position else None
            for row, page in zip(rows, pages, strict=True)
        ]

    async def _make_anew(self, error: sqlite3.Error | str) -> None:
        """Empty a file that is damaged. Raises IndexDamaged, or EventStoreError: it cannot be emptied."""
        try:
            await self._executor.run(self._discard)
        except (sqlite3.Error, OSError) as again:
            raise EventStoreError(f"the audit index is damaged, delete it: {again}") from None
        _log.warning("audit_index_made_again", reason=str(error))
        raise IndexDamaged(
            f"the audit index was damaged ({error}); it is made again: ask once more"
        ) from None

    async def _position(self) -> int:
        try:
            return await self._job(lambda: int(facts_of(self._db.conn).get("position", "0")))
        except IndexDamaged:
            return 0

    async def _belongs(self) -> bool:
        """Whether it lacks no row, and the history that it consumed is still the log's history."""
        counted, facts = await self._job(self._counted)
        if counted != int(facts.get("rows", "0")):
            return False
        if not facts:
            return True
        log = self._log
        try:
            position, chain = int(facts["position"]), bytes.fromhex(facts["chain"])
        except (KeyError, ValueError):  # what it says of itself is damaged
            return False
        if facts.get("log") != log.log_id or position > log.position:
            return False
        return await log.chains(position - 1, position) == [chain]

    # Jobs.

    def _open(self) -> None:
        """Open the file. It is made anew if it is missing or unusable."""
        try:
            self._db = open_tables(self._path)
        except sqlite3.DatabaseError:
            tables.discard(self._path)
            self._db = open_tables(self._path)

    def _discard(self) -> None:
        """Delete the file and begin with an empty one."""
        self._db.conn.close()
        tables.discard(self._path)
        self._db = open_tables(self._path)

    def _has_whole_pages(self) -> bool:
        """Whether its pages agree: a copy made during a write may be torn."""
        try:
            if self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                return False
            self._db.execute("INSERT INTO event_fts(event_fts, rank) VALUES ('integrity-check', 0)")
        except sqlite3.DatabaseError:
            return False
        return True

    def _counted(self) -> tuple[int, dict[str, str]]:
        """How many rows there are, and what is noted: another program may delete some."""
        with self._transaction():  # since another process may add some
            [counted] = self._db.execute("SELECT count(*) FROM event").fetchone()
            return counted, facts_of(self._db.conn)

    def _forget(self) -> None:
        """Forget everything: the index was of another history."""
        with self._transaction():
            for sql in (
                "DELETE FROM event",
                "INSERT INTO event_fts(event_fts) VALUES ('delete-all')",
                "DELETE FROM stretch",
                "DELETE FROM meta",
            ):
                self._db.execute(sql)

    def _add(self, events: Sequence[StoredEvent]) -> None:
        """Index `events`, which follow what was consumed. Events that another process added are skipped."""
        with self._transaction():
            known = facts_of(self._db.conn)
            after = int(known.get("position", "0"))
            fresh = [event for event in events if event.position > after]
            if not fresh:
                return
            rows, texts = [], []
            for event in fresh:
                row, value = columns_of(event)
                rows.append(row)
                texts.append(searched(event.position, row, value))
            connection = self._db.conn
            connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            connection.executemany(PUT_TEXT, texts)
            kept = int(known.get("rows", "0")) + len(rows)
            for event in fresh:
                if is_receipt(event):
                    kept -= self._drop(read_receipt(event).ranges)
            newest_ms, back_ms = self._keep_time(known, fresh)
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                (
                    ("log", self._log.log_id), ("position", str(fresh[-1].position)),
                    ("chain", fresh[-1].chain.hex()), ("rows", str(kept)),
                    ("newest_ms", str(newest_ms)), ("back_ms", str(back_ms)),
                ),
            )  # fmt: skip

    def _settle(self) -> None:
        """Update SQLite's statistics, which it needs after many events to choose the rarest condition."""
        self._db.execute("PRAGMA analysis_limit=1000")
        self._db.execute("ANALYZE")

    def _keep_time(self, known: Mapping[str, str], events: Sequence[StoredEvent]) -> tuple[int, int]:
        """Note the newest time before these events. Returns that after them, and how far the clock went back.

        So no event before a stretch is newer than its `clock`, and no event in it or after it is older than
        its `clock` minus the time that the clock went back.
        """
        newest_ms, back_ms = int(known.get("newest_ms", "0")), int(known.get("back_ms", "0"))
        self._db.execute("INSERT INTO stretch VALUES (?, ?)", (events[0].position, rfc3339(newest_ms)))
        for event in events:
            newest_ms = max(newest_ms, event.ts_ms)
            back_ms = max(back_ms, newest_ms - event.ts_ms)
        return newest_ms, back_ms

    def _drop(self, ranges: Sequence[tuple[int, int]]) -> int:
        """Remove the rows of pruned events. How many."""
        dropped = 0
        for first, count in ranges:
            bounds = (first, first + count - 1)
            sql = f"SELECT {ROW} FROM event WHERE position BETWEEN ? AND ?"  # noqa: S608  a constant
            for row in self._db.execute(sql, bounds).fetchall():
                self._db.execute(DROP_TEXT, searched(row[0], row, msgspec.json.decode(row[-1])))
            dropped += self._db.execute("DELETE FROM event WHERE position BETWEEN ? AND ?", bounds).rowcount
        return dropped

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _wrong(rows: Sequence[Row], written: Sequence[StoredEvent | None]) -> int:
    """The position of the first row that is not its event's, 0 if there is none."""
    for row, event in zip(rows, written, strict=True):
        if event is not None and msgspec.structs.astuple(row) != _told(event):
            return row.position
    return 0


def _told(event: StoredEvent) -> tuple[Any, ...]:
    *columns, data = columns_of(event)[0]
    return (*columns, msgspec.Raw(data.encode()))


def _within(rows: list[Row]) -> list[Row]:
    """The first rows whose data is at most `PAGE_BYTES_MAX`; at least one."""
    size = 0
    for count, row in enumerate(rows):
        size += len(bytes(row.data))
        if count and size > PAGE_BYTES_MAX:
            return rows[:count]
    return rows


_SELECT = (
    "SELECT position, timestamp, stream, seq, type, principal, entity, command_id, cause, data FROM event"
)

METADATA: Final[dict[str, Any]] = {
    "title": "huahuo audit",
    "description": "Who did what, when and why. Every question is itself recorded on the stream `audit`.",
    "allow": {"id": "root"},
    "databases": {
        "audit": {
            "tables": {
                "event": {
                    "description": "A row an event. Put spaces between Chinese characters in a search.",
                    "facets": ["type", "stream", "principal"],
                    "sort_desc": "position",
                    "size": 50,
                    "fts_table": "event_fts",
                    "fts_pk": "position",
                    "hidden": False,
                },
                "meta": {"hidden": True},
                "stretch": {"hidden": True},
            },
            "queries": {
                "about_entity": {
                    "title": "All about one entity",
                    "sql": f"{_SELECT} WHERE entity = :entity ORDER BY position DESC LIMIT 500",
                },
                "by_principal": {
                    "title": "All that somebody did",
                    "sql": f"{_SELECT} WHERE principal = :principal ORDER BY position DESC LIMIT 500",
                },
                "by_command": {
                    "title": "What one command caused",
                    "sql": f"{_SELECT} WHERE command_id = :command_id ORDER BY position",
                },
                "consequences": {
                    "title": "What one event led to, over all its consequences",
                    "sql": (
                        "WITH RECURSIVE led(position) AS (SELECT CAST(:position AS INTEGER) UNION"  # noqa: S608  constants
                        " SELECT event.position FROM event JOIN led ON event.cause = led.position"
                        " WHERE led.position > 0 LIMIT 1000)"
                        f" {_SELECT} JOIN led USING (position) ORDER BY position"
                    ),
                },
                "audits": {
                    "title": "Who looked",
                    "sql": (
                        "SELECT position, timestamp, principal, json_extract(data, '$.action') AS action,"
                        " json_extract(data, '$.what') AS what FROM event"
                        " WHERE stream = 'audit' AND type = 'audit_recorded' ORDER BY position DESC LIMIT 500"
                    ),
                },
            },
        }
    },
}
