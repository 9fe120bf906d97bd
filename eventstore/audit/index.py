"""The audit index: who, what, when and why of every event, with full text, in a database of its own.

    DIR/audit.db      event: one row per event, indexed by each question · event_fts: its full text
                      stretch: which positions to search for a time
                      meta: the id of the log, and the (position, chain) up to which it was read

It is a projection: if it is deleted, it is rebuilt from the log. It never touches the log's own files,
so it does not affect the writer. Any process may bring it forward: each batch is one transaction, which
first reads how far the others came.
"""

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.audit.text import match_of, shown, words_of
from huahuo.eventstore.core.receipts import is_receipt, read_receipt
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import StoredEvent

if TYPE_CHECKING:
    import sqlite_utils

DATABASE = "audit.db"
FORMAT = 2
COUNTED_MAX = 5_000
"""At most this many matches are counted and sorted into facets; beyond it the count is `more than` this."""

FACETS = ("type", "stream", "principal", "entity")
_FACET_VALUES = 10
_BUSY_TIMEOUT_MS = 10_000
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_COLUMNS: dict[str, type] = {
    "position": int,
    "stream": str,
    "seq": int,
    "type": str,
    "timestamp": str,
    "principal": str,
    "entity": str,
    "command_id": str,
    "cause": int,
    "build": str,
    "version": int,
    "data": str,
}
_INDEXED = ("entity", "principal", "type", "stream", "command_id")
_EXACT = ("stream", "type", "principal", "entity")
"""Columns whose whole value is one word of the full text, so that the full text can narrow a search."""
_ROW = ", ".join(f"event.{name}" for name in _COLUMNS)
_TEXTS = f"rowid, {', '.join(_EXACT)}, data"
_PUT_TEXT = f"INSERT INTO event_fts({_TEXTS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608  constants
_DROP_TEXT = f"INSERT INTO event_fts(event_fts, {_TEXTS}) VALUES ('delete', ?, ?, ?, ?, ?, ?)"  # noqa: S608


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


class Row(msgspec.Struct, frozen=True):
    """One event as the audit shows it; `data` is its body, secrets sealed."""

    position: int
    stream: str
    seq: int
    type: str
    timestamp: str
    principal: str
    entity: str
    command_id: str
    cause: int
    build: str
    version: int
    data: msgspec.Raw


class Consumed(msgspec.Struct, frozen=True):
    """How far an index was brought: the log's id, the position, and the link of the chain there."""

    log_id: str
    position: int
    chain: bytes


class Counted(msgspec.Struct, frozen=True):
    """How many events match (`exact`, or more than that), and the commonest values among them."""

    count: int
    exact: bool
    facets: dict[str, dict[str, int]]


class AuditIndex:
    """One connection to an index. Calls must not overlap: run them as jobs of one thread."""

    def __init__(self, path: Path | None) -> None:
        """Open the index at `path` (None: in memory). It is made anew if it is missing or unusable."""
        self._path = path
        self._kept = 0
        try:
            self._db = self._open()
        except sqlite3.DatabaseError:
            self._discard()
            self._db = self._open()

    def discard(self) -> None:
        """Delete the file and begin with an empty one."""
        self.close()
        self._discard()
        self._db = self._open()

    def close(self) -> None:
        """Close the file."""
        self._db.conn.close()

    def consumed(self) -> Consumed | None:
        """How far it is; None if it holds nothing."""
        found = self._facts()
        if "log" not in found:
            return None
        return Consumed(found["log"], int(found["position"]), bytes.fromhex(found["chain"]))

    def is_whole(self) -> bool:
        """Whether its pages agree and no row is missing: a copy made during a write may be torn."""
        try:
            if self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                return False
            self._db.execute("INSERT INTO event_fts(event_fts, rank) VALUES ('integrity-check', 0)")
            rows = self._db.execute("SELECT count(*) FROM event").fetchone()[0]
        except sqlite3.DatabaseError:
            return False
        return bool(rows == int(self._facts().get("rows", "0")))

    def reset(self) -> None:
        """Forget everything: the index was of another history."""
        with self._transaction():
            for sql in (
                "DELETE FROM event",
                "INSERT INTO event_fts(event_fts) VALUES ('delete-all')",
                "DELETE FROM stretch",
                "DELETE FROM meta",
            ):
                self._db.execute(sql)

    def add(self, log_id: str, events: Sequence[StoredEvent]) -> None:
        """Index `events`, which follow what was consumed. Events that another process added are skipped."""
        with self._transaction():
            known = self.consumed()
            after = 0 if known is None else known.position
            fresh = [event for event in events if event.position > after]
            if not fresh:
                return
            rows, texts = [], []
            for event in fresh:
                row, value = columns_of(event)
                rows.append(row)
                texts.append(_searched(event.position, row, value))
            connection = self._db.conn
            self._kept = int(self._facts().get("rows", "0")) + len(rows)
            connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            connection.executemany(_PUT_TEXT, texts)
            for event in fresh:
                if is_receipt(event):
                    self._drop(read_receipt(event).ranges)
            last = fresh[-1]
            facts = {"log": log_id, "position": str(last.position), "chain": last.chain.hex()}
            facts |= self._keep_time(fresh)
            facts["rows"] = str(self._kept)
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts.items())

    def settle(self) -> None:
        """Update SQLite's statistics, which it needs after many events to choose the rarest condition."""
        self._db.execute("PRAGMA analysis_limit=1000")
        self._db.execute("ANALYZE")

    def find(self, where: Where, after: int, upto: int, limit: int) -> list[Row]:
        """The first `limit` matches at positions in (after, upto], ascending.

        Raises:
            ValueError: the text to search for is empty or malformed.
        """
        found = self._select(_ROW, where, after, upto, limit)
        names = Row.__struct_fields__
        return [
            Row(**dict(zip(names, row, strict=True)) | {"data": msgspec.Raw(str(row[-1]).encode())})
            for row in found
        ]

    def count(self, where: Where, upto: int) -> Counted:
        """Count the matches (at most `COUNTED_MAX`) and their commonest values in each of `FACETS`.

        Raises:
            ValueError: as `find`.
        """
        columns = ", ".join(f"event.{name}" for name in FACETS)
        found = self._select(columns, where, 0, upto, COUNTED_MAX + 1)
        exact, found = len(found) <= COUNTED_MAX, found[:COUNTED_MAX]
        tallies = {name: Counter(row[n] for row in found) for n, name in enumerate(FACETS)}
        common = {name: tally.most_common(_FACET_VALUES) for name, tally in tallies.items()}
        facets = {name: {value: n for value, n in best if value} for name, best in common.items()}
        return Counted(len(found), exact, facets)

    def _select(self, columns: str, where: Where, after: int, upto: int, limit: int) -> list[tuple[Any, ...]]:
        clauses, values = self._clauses(where, after, upto)
        source, order = "event", "position"
        if where.text:
            # The full text gives its matches in the order of positions, so a page of them is enough.
            source, order = "event_fts CROSS JOIN event ON position = event_fts.rowid", "event_fts.rowid"
            clauses = ["event_fts.rowid BETWEEN ? AND ?", *clauses[1:], "event_fts MATCH ?"]
            values.append(_match(where))
        sql = f"SELECT {columns} FROM {source} WHERE {' AND '.join(clauses)} ORDER BY {order} LIMIT ?"  # noqa: S608  ours
        found: list[tuple[Any, ...]] = self._db.execute(sql, [*values, limit]).fetchall()
        return found

    def _clauses(self, where: Where, after: int, upto: int) -> tuple[list[str], list[str | int]]:
        """The conditions on a row. A time becomes a range of positions, so that it costs one look-up."""
        lowest, highest = after + 1, upto
        if where.since:
            sql = "SELECT max(position) FROM stretch WHERE clock < ?"
            lowest = max(lowest, self._db.execute(sql, [where.since]).fetchone()[0] or 0)
        if where.until:
            back_ms = int(self._facts().get("back_ms", "0"))
            sql = "SELECT min(position) FROM stretch WHERE clock > ?"
            found = self._db.execute(sql, [rfc3339(_ms(where.until) + back_ms)]).fetchone()[0]
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

    def _facts(self) -> dict[str, str]:
        return dict(self._db.execute("SELECT key, value FROM meta").fetchall())

    def _keep_time(self, events: Sequence[StoredEvent]) -> dict[str, str]:
        """Note the newest time before these events, and how far the clock ever went back.

        So no event before a stretch is newer than its `clock`, and no event in it or after it is older than
        its `clock` minus the time that the clock went back.
        """
        known = self._facts()
        newest_ms, back_ms = int(known.get("newest_ms", "0")), int(known.get("back_ms", "0"))
        self._db.execute("INSERT INTO stretch VALUES (?, ?)", (events[0].position, rfc3339(newest_ms)))
        for event in events:
            newest_ms = max(newest_ms, event.ts_ms)
            back_ms = max(back_ms, newest_ms - event.ts_ms)
        return {"newest_ms": str(newest_ms), "back_ms": str(back_ms)}

    def _drop(self, ranges: Sequence[tuple[int, int]]) -> None:
        for first, count in ranges:
            bounds = (first, first + count - 1)
            sql = f"SELECT {_ROW} FROM event WHERE position BETWEEN ? AND ?"  # noqa: S608  a constant
            for row in self._db.execute(sql, bounds).fetchall():
                self._db.execute(_DROP_TEXT, _searched(row[0], row, msgspec.json.decode(row[-1])))
            self._kept -= self._db.execute(
                "DELETE FROM event WHERE position BETWEEN ? AND ?", bounds
            ).rowcount

    def _open(self) -> "sqlite_utils.Database":
        import sqlite_utils  # here: it is a tenth of the imports of a start

        where = ":memory:" if self._path is None else self._path
        if self._path is not None:
            try:
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                self._path.chmod(0o600)
        connection = sqlite3.connect(where, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
            # No write-ahead log: several processes write here, and before 3.51.3 SQLite can corrupt one
            # when one connection checkpoints while another commits.
            connection.execute("PRAGMA journal_mode=TRUNCATE")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("PRAGMA cache_size=-65536")
            db = sqlite_utils.Database(connection, recursive_triggers=False, execute_plugins=False)
            self._prepare(db)
        except BaseException:
            connection.close()
            raise
        return db

    @staticmethod
    def _prepare(db: "sqlite_utils.Database") -> None:
        connection = db.conn
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == FORMAT:
            return
        if version:
            raise sqlite3.DatabaseError("an index of another version")
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == FORMAT:  # made meanwhile
            connection.execute("ROLLBACK")
            return
        db.table("meta").create({"key": str, "value": str}, pk="key", strict=True)
        db.table("stretch").create({"position": int, "clock": str}, pk="position", strict=True)
        table = db.table("event")
        table.create(_COLUMNS, pk="position", not_null=set(_COLUMNS), strict=True)
        for column in _INDEXED:
            table.create_index([column], index_name=f"event_by_{column}")
        db.table("stretch").create_index(["clock"], index_name="stretch_by_clock")
        table.enable_fts([*_EXACT, "data"], fts_version="FTS5", tokenize="unicode61 remove_diacritics 2")
        connection.execute(f"PRAGMA user_version={FORMAT}")
        connection.execute("COMMIT")

    def _discard(self) -> None:
        if self._path is None:
            raise EventStoreError("an index in memory cannot be made")
        for suffix in ("", "-journal"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def columns_of(event: StoredEvent) -> tuple[tuple[Any, ...], Any]:
    """The row of an event, in the order of `Row`, and its body as a value."""
    data, value = shown(event.body)
    row = (
        event.position, event.stream, event.seq, event.type, rfc3339(event.ts_ms), event.principal,
        event.entity, event.command_id, event.cause, event.build, event.version, data,
    )  # fmt: skip
    return row, value


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether the file is damaged, not only busy or full. A text that is not UTF-8 comes without a code."""
    code = getattr(error, "sqlite_errorcode", None)
    return "decode" in str(error) if code is None else code & 0xFF in _DAMAGED


def _searched(position: int, row: Sequence[Any], value: Any) -> tuple[int | str, ...]:
    """The values of a row for the full text, in the order of `_TEXTS`."""
    columns = dict(zip(_COLUMNS, row, strict=True))
    return (position, *(_word(columns[name]) for name in _EXACT), words_of(value))


def _word(value: str) -> str:
    """`value` as one word for the tokenizer; different values give different words."""
    return "x" + value.encode().hex() if value else ""


def _match(where: Where) -> str:
    """The search in the full text, narrowed by its exact columns."""
    parts = [f"data : ({match_of(where.text)})"]
    for column in _EXACT:
        asked = where.types if column == "type" else (getattr(where, column),)
        if words := [_word(value) for value in asked if value]:
            parts.append(f"{column} : ({' OR '.join(words)})")
    return " AND ".join(parts)


def _ms(time: str) -> int:
    given = datetime.fromisoformat(time) - datetime.fromtimestamp(0, UTC)
    return given // timedelta(milliseconds=1)
