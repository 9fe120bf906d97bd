"""The audit index: who, what, when and why of every event, with full text, in a database of its own.

    DIR/audit.db      event: a row an event, indexed by each question · event_fts: its full text
                      stretch: at which positions a time is to be looked for
                      meta: whose log, and the (position, chain) up to which it was read

It is a projection that anybody may throw away: it is made again from the log. It never touches the
log's own files, so the writer does not know of it. Any process may bring it forward; each batch is one
transaction that looks first how far the others came.
"""

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import sqlite_utils

from eventstore.ambient import rfc3339
from eventstore.audit_text import match_of, shown, words_of
from eventstore.errors import EventStoreError
from eventstore.model import StoredEvent
from eventstore.pruning import is_receipt, read_receipt

DATABASE = "audit.db"
FORMAT = 1
COUNTED_MAX = 10_000
"""So many matches are counted and sorted into facets; more is said as `more than`."""

FACETS = ("type", "stream", "principal", "entity")
_FACET_VALUES = 10
_BUSY_TIMEOUT_MS = 10_000
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
    "data": str,
}
_INDEXED = ("entity", "principal", "type", "stream", "command_id")
_ROW = "position, stream, seq, type, timestamp, principal, entity, command_id, cause, build, event.data"


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked; everything given must hold. Times are RFC 3339 UTC, both ends included."""

    stream: str = ""
    types: tuple[str, ...] = ()
    principal: str = ""
    entity: str = ""
    command_id: str = ""
    since: str = ""
    until: str = ""
    text: str = ""

    def described(self) -> dict[str, object]:
        """What was asked, for the record: only what was given."""
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
    data: msgspec.Raw


class Consumed(msgspec.Struct, frozen=True):
    """How far an index was brought: of which log, to which position, with which link of the chain."""

    log_id: str
    position: int
    chain: bytes


class Counted(msgspec.Struct, frozen=True):
    """How many events match (`exact`, or more than that), and the commonest values among them."""

    count: int
    exact: bool
    facets: dict[str, dict[str, int]]


class AuditIndex:
    """One connection to an index. Calls must not overlap: they belong into jobs of one thread."""

    def __init__(self, path: Path | None) -> None:
        """Open the index at `path`, made anew if it is not there or not usable; None: in memory."""
        self._path = path
        try:
            self._db = self._open()
        except sqlite3.DatabaseError:
            self._discard()
            self._db = self._open()

    def close(self) -> None:
        """Let go of the file."""
        self._db.conn.close()

    def consumed(self) -> Consumed | None:
        """How far it is; None if it holds nothing."""
        found = self._facts()
        if "log" not in found:
            return None
        return Consumed(found["log"], int(found["position"]), bytes.fromhex(found["chain"]))

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
        """Take in `events`, which follow what was consumed (what another process took in is left out)."""
        with self._transaction():
            known = self.consumed()
            after = 0 if known is None else known.position
            fresh = [event for event in events if event.position > after]
            if not fresh:
                return
            rows, texts = [], []
            for event in fresh:
                data, value = shown(event.body)
                rows.append(
                    (
                        event.position, event.stream, event.seq, event.type, rfc3339(event.ts_ms),
                        event.principal, event.entity, event.command_id, event.cause, event.build, data,
                    )
                )  # fmt: skip
                texts.append((event.position, words_of(value)))
            connection = self._db.conn
            connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            connection.executemany("INSERT INTO event_fts(rowid, data) VALUES (?, ?)", texts)
            for event in fresh:
                if is_receipt(event):
                    self._drop(read_receipt(event).ranges)
            last = fresh[-1]
            facts = {"log": log_id, "position": str(last.position), "chain": last.chain.hex()}
            facts |= self._keep_time(fresh)
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts.items())

    def settle(self) -> None:
        """After many events: let SQLite learn what is rare, and join the parts of the full text."""
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
            Row(**dict(zip(names, row, strict=True)) | {"data": msgspec.Raw(row[-1].encode())})
            for row in found
        ]

    def count(self, where: Where, upto: int) -> Counted:
        """How many match, and which types, streams, principals and entities they have most. Bounded.

        Raises:
            ValueError: as `find`.
        """
        found = self._select(", ".join(FACETS), where, 0, upto, COUNTED_MAX + 1)
        exact, found = len(found) <= COUNTED_MAX, found[:COUNTED_MAX]
        tallies = {name: Counter(row[n] for row in found) for n, name in enumerate(FACETS)}
        common = {name: tally.most_common(_FACET_VALUES) for name, tally in tallies.items()}
        facets = {name: {value: n for value, n in best if value} for name, best in common.items()}
        return Counted(len(found), exact, facets)

    def _select(self, columns: str, where: Where, after: int, upto: int, limit: int) -> list[tuple[Any, ...]]:
        clauses, values = self._clauses(where, after, upto)
        source, order = "event", "position"
        if where.text and (where.entity or where.command_id):
            # Few rows: ask the full text about each.
            clauses.append("EXISTS (SELECT 1 FROM event_fts WHERE rowid = position AND event_fts MATCH ?)")
        elif where.text:
            # The full text gives its matches in the order of positions, so a page of them is enough.
            source, order = "event_fts CROSS JOIN event ON position = event_fts.rowid", "event_fts.rowid"
            clauses = ["event_fts.rowid BETWEEN ? AND ?", *clauses[1:], "event_fts MATCH ?"]
        if where.text:
            values.append(match_of(where.text))
        sql = f"SELECT {columns} FROM {source} WHERE {' AND '.join(clauses)} ORDER BY {order} LIMIT ?"  # noqa: S608  ours
        found: list[tuple[Any, ...]] = self._db.execute(sql, [*values, limit]).fetchall()
        return found

    def _clauses(self, where: Where, after: int, upto: int) -> tuple[list[str], list[str | int]]:
        """What must hold of a row. A time becomes a range of positions, so that it costs one look-up."""
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
                clauses.append(f"{column} = ?")
                values.append(asked)
        if where.types:
            clauses.append(f"type IN ({', '.join('?' * len(where.types))})")
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

        So nothing before a stretch is as new as a time beyond its `clock`, and nothing in it or behind is
        older than its `clock` less the time that the clock went back.
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
            sql = "SELECT position, data FROM event WHERE position BETWEEN ? AND ?"
            for position, data in self._db.execute(sql, bounds).fetchall():
                words = words_of(msgspec.json.decode(data))
                forget = "INSERT INTO event_fts(event_fts, rowid, data) VALUES ('delete', ?, ?)"
                self._db.execute(forget, (position, words))
            self._db.execute("DELETE FROM event WHERE position BETWEEN ? AND ?", bounds)

    def _open(self) -> sqlite_utils.Database:
        where = ":memory:" if self._path is None else self._path
        if self._path is not None:
            try:
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                self._path.chmod(0o600)
        connection = sqlite3.connect(where, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
            connection.execute("PRAGMA journal_mode=WAL")
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
    def _prepare(db: sqlite_utils.Database) -> None:
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
        table.enable_fts(["data"], fts_version="FTS5", tokenize="unicode61 remove_diacritics 2")
        connection.execute(f"PRAGMA user_version={FORMAT}")
        connection.execute("COMMIT")

    def _discard(self) -> None:
        if self._path is None:
            raise EventStoreError("an index in memory cannot be made")
        for suffix in ("", "-wal", "-shm", "-journal"):
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


def _ms(time: str) -> int:
    given = datetime.fromisoformat(time) - datetime.fromtimestamp(0, UTC)
    return given // timedelta(milliseconds=1)
