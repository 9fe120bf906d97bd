"""The audit index: who, what, when and why of every event, with full text, in a database of its own.

    DIR/audit.db      event: one row per event, indexed by each question · event_fts: its full text
                      stretch: which positions to search for a time
                      meta: the id of the log, and the (position, chain) up to which it was read

It is a projection: if it is deleted, it is rebuilt from the log. It never touches the log's own files,
so it does not affect the writer. Any process may bring it forward: each batch is one transaction, which
first reads how far the others came.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.audit import query, tables
from huahuo.eventstore.audit.query import Counted, Where
from huahuo.eventstore.audit.tables import (
    DROP_TEXT,
    PUT_TEXT,
    ROW,
    Row,
    columns_of,
    facts_of,
    open_tables,
    searched,
)
from huahuo.eventstore.core.receipts import is_receipt, read_receipt
from huahuo.eventstore.model import StoredEvent

DATABASE = "audit.db"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Consumed(msgspec.Struct, frozen=True):
    """How far an index was brought: the log's id, the position, and the link of the chain there."""

    log_id: str
    position: int
    chain: bytes


class AuditIndex:
    """One connection to an index. Calls must not overlap: run them as jobs of one thread."""

    def __init__(self, path: Path | None) -> None:
        """Open the index at `path` (None: in memory). It is made anew if it is missing or unusable."""
        self._path = path
        self._kept = 0
        try:
            self._db = open_tables(self._path)
        except sqlite3.DatabaseError:
            tables.discard(self._path)
            self._db = open_tables(self._path)

    def discard(self) -> None:
        """Delete the file and begin with an empty one."""
        self.close()
        tables.discard(self._path)
        self._db = open_tables(self._path)

    def close(self) -> None:
        """Close the file."""
        self._db.conn.close()

    def consumed(self) -> Consumed | None:
        """How far it is; None if it holds nothing."""
        found = facts_of(self._db.conn)
        if "log" not in found:
            return None
        return Consumed(found["log"], int(found["position"]), bytes.fromhex(found["chain"]))

    def is_whole(self) -> bool:
        """Whether its pages agree and no row is missing: a copy made during a write may be torn."""
        try:
            if self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                return False
            self._db.execute("INSERT INTO event_fts(event_fts, rank) VALUES ('integrity-check', 0)")
            return not self.lacks_rows()
        except sqlite3.DatabaseError:
            return False

    def lacks_rows(self) -> bool:
        """Whether another program deleted rows, which answers would lack. Some ms for a million rows."""
        # In one statement, since another process may add some.
        counted, noted = self._db.execute(
            "SELECT (SELECT count(*) FROM event), (SELECT value FROM meta WHERE key = 'rows')"
        ).fetchone()
        return str(counted) != (noted or "0")

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
                texts.append(searched(event.position, row, value))
            connection = self._db.conn
            self._kept = int(facts_of(self._db.conn).get("rows", "0")) + len(rows)
            connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            connection.executemany(PUT_TEXT, texts)
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
        """See `query.find`."""
        return query.find(self._db.conn, where, after, upto, limit)

    def count(self, where: Where, upto: int) -> Counted:
        """See `query.count`."""
        return query.count(self._db.conn, where, upto)

    def _keep_time(self, events: Sequence[StoredEvent]) -> dict[str, str]:
        """Note the newest time before these events, and how far the clock ever went back.

        So no event before a stretch is newer than its `clock`, and no event in it or after it is older than
        its `clock` minus the time that the clock went back.
        """
        known = facts_of(self._db.conn)
        newest_ms, back_ms = int(known.get("newest_ms", "0")), int(known.get("back_ms", "0"))
        self._db.execute("INSERT INTO stretch VALUES (?, ?)", (events[0].position, rfc3339(newest_ms)))
        for event in events:
            newest_ms = max(newest_ms, event.ts_ms)
            back_ms = max(back_ms, newest_ms - event.ts_ms)
        return {"newest_ms": str(newest_ms), "back_ms": str(back_ms)}

    def _drop(self, ranges: Sequence[tuple[int, int]]) -> None:
        for first, count in ranges:
            bounds = (first, first + count - 1)
            sql = f"SELECT {ROW} FROM event WHERE position BETWEEN ? AND ?"  # noqa: S608  a constant
            for row in self._db.execute(sql, bounds).fetchall():
                self._db.execute(DROP_TEXT, searched(row[0], row, msgspec.json.decode(row[-1])))
            self._kept -= self._db.execute(
                "DELETE FROM event WHERE position BETWEEN ? AND ?", bounds
            ).rowcount

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether the file is damaged, not only busy or full. A text that is not UTF-8 comes without a code."""
    code = getattr(error, "sqlite_errorcode", None)
    return "decode" in str(error) if code is None else code & 0xFF in _DAMAGED
