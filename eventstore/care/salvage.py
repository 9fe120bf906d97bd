"""A log made of what can be read of a damaged one. Offline, into another directory.

An event is taken if the hash chain proves it: by its own link, or by the event behind it. In place of each
lost one stands a tombstone, so no seq moves; the chain is made anew. Rows outside the chain are taken if they
fit their checksums. Each table is read from both ends, so that one damaged page hides no other.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from huahuo.eventstore.core.chain import GENESIS, Facts, link
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Tombstone
from huahuo.eventstore.sqlite.changes import INSERT_EVENT
from huahuo.eventstore.sqlite.connections import FAULTS, connect_writer, text_of
from huahuo.eventstore.sqlite.log import prepare
from huahuo.eventstore.sqlite.mark import read_marks, untouched, without_wal
from huahuo.eventstore.sqlite.schema import (
    DATABASE,
    FIRST_NUMBER,
    FORGET_EVENTS,
    SUMMED,
    put_meta,
    row_crc,
    tables,
)

LOSS_STRIDE: Final = 1 << 30
"""Counters move on by this: more numbers than the lost part can have used, and few enough for eight million
salvages within JavaScript's 2^53."""
LOST_STREAM: Final = "lost"
"""Has the tombstones of events of which nothing tells the stream."""
_COPIED: Final = ("command", "data_key", "sealed", "blob", "projection", "ack", "usage")
_OWN_META: Final = frozenset({"log", "writer_epoch", "master_key", "indexed", "counted", FIRST_NUMBER})
_AT_ONCE: Final = 1000
_EVENT: Final = (
    "SELECT position, stream, seq, type, version, ts, entity, principal, command_id, cause, build, body,"
    " chain FROM event WHERE position BETWEEN ? AND ?"
)
_PRUNED: Final = "SELECT position, stream, seq, chain FROM pruned WHERE position BETWEEN ? AND ?"
_PLACES: Final = (
    "SELECT stream, seq, position, lag(seq, 1, 0) OVER by_seq AS before, lag(position, 1, 0) OVER by_seq FROM"
    " (SELECT stream, seq, position FROM event UNION ALL SELECT stream, seq, position FROM pruned)"
    " WINDOW by_seq AS (PARTITION BY stream ORDER BY seq)"
)
_LAST_SEQ: Final = (
    "SELECT coalesce(max(seq), 0) FROM (SELECT seq FROM event WHERE stream = ?"
    " UNION ALL SELECT seq FROM pruned WHERE stream = ?)"
)
_FIRSTS: Final = (
    "SELECT stream, coalesce(min(kept), max(gone) + 1) FROM"
    " (SELECT stream, seq AS kept, NULL AS gone FROM event"
    " UNION ALL SELECT stream, NULL, seq FROM pruned) GROUP BY stream"
)


class Salvaged(msgspec.Struct):
    """What became of a log. `position`: its end. `rows`: by table, how many do not fit their checksum."""

    position: int = 0
    lost: list[Tombstone] = []
    rows: dict[str, int] = {}
    cut: list[str] = []
    """Tables of which a page cannot be read, so that rows may be missing that nobody counted."""

    def sentences(self) -> Iterator[str]:
        """What is lost, a line each; none if all was readable."""
        if self.lost:
            streams = sorted({one.stream for one in self.lost})
            named = f"{', '.join(streams[:5])}{' …' if len(streams) > 5 else ''}"  # noqa: PLR2004
            yield f"{len(self.lost)} events are lost (of {named}); tombstones stand in their places"
        for table, count in self.rows.items():
            yield f"{count} rows of table {table} do not fit their checksum, and are left out"
        for table in self.cut:
            yield f"a page of table {table} cannot be read: rows of it may be missing"


class _Event(NamedTuple):
    row: tuple[Any, ...]
    facts: Facts | None
    links: frozenset[bytes]
    """What its link must be, by each link that the event before it may have."""


def salvage(source: Path, into: Path, master_key_mark: bytes) -> Salvaged:
    """Make the new directory `into` of the log in the directory `source`, on which no process may write.

    Raises:
        EventStoreError: no table of it can be listed, or it is a node's replica.
    """
    best: tuple[int, bool] | None = None
    for with_wal in (True, False):
        with contextlib.suppress(EventStoreError, *FAULTS), _reading(source, with_wal=with_wal) as old:
            found = _last(old, "event"), with_wal
            best = found if best is None or found > best else best
    if best is None:
        raise EventStoreError(f"nothing of {source / DATABASE} can be read: restore a backup")
    into.mkdir(mode=0o700)
    target = into / DATABASE
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with _reading(source, with_wal=best[1]) as old, contextlib.closing(connect_writer(target)) as new:
        return _Salvage(source, old, new).run(master_key_mark)


@contextlib.contextmanager
def _reading(source: Path, *, with_wal: bool) -> Iterator[sqlite3.Connection]:
    with (untouched if with_wal else without_wal)(source / DATABASE) as connection:
        if not {"meta", "event", "stream", "name"} <= tables(connection):
            raise EventStoreError("it has no tables of a log")
        connection.text_factory = text_of
        yield connection


class _Salvage:
    def __init__(self, source: Path, old: sqlite3.Connection, new: sqlite3.Connection) -> None:
        self._old, self._new = old, new
        marks = [mark.position for mark in read_marks(source) or []]
        self._end = max(_last(old, "event"), _last(old, "pruned"), *marks, 0)
        self._done = Salvaged(self._end, [], {}, [])
        self._streams = self._texts_by_number("stream", "name")
        self._texts = self._texts_by_number("name", "text")
        self._lost: list[tuple[int, bytes]] = []
        self._before = GENESIS

    def run(self, master_key_mark: bytes) -> Salvaged:
        new = self._new
        new.execute("BEGIN IMMEDIATE")
        prepare(new)
        self._events()
        self._place_lost()
        self._names()
        for table in _COPIED:
            columns = (*SUMMED[table], "crc")
            marks = ", ".join("?" * len(columns))
            new.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", self._fitting(table))  # noqa: S608
        new.execute("DELETE FROM sealed WHERE owner NOT IN (SELECT owner FROM data_key)")
        new.execute(FORGET_EVENTS)
        first = 1
        for key, value, _ in self._fitting("meta"):
            if key == "shared":
                raise EventStoreError("this is a node's replica: empty its directory, and it fetches a copy")
            if key not in _OWN_META:
                put_meta(new, key, value)
            elif key == FIRST_NUMBER:
                first = int(value)
        for name, following, _ in self._fitting("counter"):
            first, moved = max(first, following), following + LOSS_STRIDE
            row = name, moved, row_crc("counter", name, moved)
            new.execute("INSERT INTO counter VALUES (?, ?, ?)", row)
        put_meta(new, FIRST_NUMBER, str(first + LOSS_STRIDE).encode())
        put_meta(new, "log", b"salvaged")  # it is opened as one that was restored, which gives it another id
        put_meta(new, "writer_epoch", b"0")
        put_meta(new, "master_key", master_key_mark)
        new.execute("COMMIT")
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self._done

    # -- events

    def _events(self) -> None:
        """Take every event that the chain proves, each as soon as the one behind it was looked at."""
        waiting: _Event | None = None
        befores: frozenset[bytes] = frozenset({GENESIS})
        for start in range(1, self._end + 1, _AT_ONCE):
            events, pruned = ({row[0]: row for row in self._between(sql, start)} for sql in (_EVENT, _PRUNED))
            for position in range(start, min(start + _AT_ONCE, self._end + 1)):
                row, stone = events.get(position), pruned.get(position)
                if row is not None:
                    facts = self._facts(row)
                    links = frozenset(_linked(before, facts) for before in befores) - {b""}
                    fits = row[-1] in links
                    if waiting is not None:
                        self._settle(waiting, row, facts if fits else None)
                        waiting = None
                    if fits:
                        self._take(row, facts)
                        befores = frozenset({row[-1]})
                    else:
                        waiting = _Event(row, facts, links)
                        befores = links | {row[-1]}
                    continue
                if waiting is not None:
                    self._lose(waiting.row[0])
                    waiting = None
                if stone is not None and stone[1] in self._streams and isinstance(stone[3], bytes):
                    self._new.execute("INSERT INTO pruned VALUES (?, ?, ?, ?, 0)", stone)
                    self._before, befores = stone[3], frozenset({stone[3]})
                else:
                    self._lose(position)
                    befores = frozenset()
        if waiting is not None:
            self._lose(waiting.row[0])

    def _settle(self, waiting: _Event, row: tuple[Any, ...], facts: Facts | None) -> None:
        """An event whose own link is damaged is proven by the next one, which continues what it must have."""
        proven = facts is not None and any(_linked(one, facts) == row[-1] for one in waiting.links)
        if proven:
            self._take(waiting.row, waiting.facts)
        else:
            self._lose(waiting.row[0])

    def _take(self, row: tuple[Any, ...], facts: Facts | None) -> None:
        assert facts is not None
        self._before = link(self._before, facts)
        self._new.execute(INSERT_EVENT, (*row[:-1], self._before))

    def _lose(self, position: int) -> None:
        self._before = link(self._before, (position, "", 0, "", b"", 0, 0, "", "", "", 0, ""))
        self._lost.append((position, self._before))

    def _facts(self, row: tuple[Any, ...]) -> Facts | None:
        position, stream, seq, type_, version, ts, entity, principal, command_id, cause, build, body, _ = row
        names = self._streams.get(stream), self._texts.get(type_), self._texts.get(build)
        if None in names:
            return None
        name, type_name, build_name = names
        return (
            position, str(name), seq, str(type_name), body, version, ts, entity, principal, command_id, cause,
            str(build_name),
        )  # fmt: skip

    def _between(self, sql: str, start: int) -> Iterator[tuple[Any, ...]]:
        """The rows of `_AT_ONCE` positions. Where they cannot be read together, each is read by itself."""
        try:
            yield from self._old.execute(sql, (start, start + _AT_ONCE - 1)).fetchall()
        except FAULTS:
            table = "event" if sql is _EVENT else "pruned"
            if table not in self._done.cut:
                self._done.cut.append(table)
            for position in range(start, start + _AT_ONCE):
                with contextlib.suppress(*FAULTS):
                    yield from self._old.execute(sql, (position, position)).fetchall()

    # -- the places of what is lost

    def _place_lost(self) -> None:
        """Give each lost event its stream and seq: as the index says, else as the gaps of the streams do."""
        left = dict(self._lost)
        if not left:
            return
        put = "INSERT INTO pruned VALUES (?, ?, ?, ?, 0)"
        self._new.execute(
            "CREATE TEMP TABLE taken AS"
            " SELECT stream, seq FROM event UNION ALL SELECT stream, seq FROM pruned"
        )
        self._new.execute("CREATE UNIQUE INDEX temp.taken_once ON taken (stream, seq)")
        index = "SELECT stream, seq, position FROM seq_index"
        for stream, seq, position in self._from_both_ends(index, "stream", "seq"):
            if position in left and stream in self._streams:
                added = self._new.execute("INSERT OR IGNORE INTO taken VALUES (?, ?)", (stream, seq)).rowcount
                if added:
                    self._new.execute(put, (position, stream, seq, left.pop(position)))
        gaps = [
            (behind, stream, before_seq + 1, seq, before)
            for stream, seq, behind, before_seq, before in self._new.execute(_PLACES)
            if seq != before_seq + 1
        ]
        gaps.sort()
        for position in sorted(left):
            for n, (behind, stream, following, end, before) in enumerate(gaps):
                if before < position < behind:
                    self._new.execute(put, (position, stream, following, left.pop(position)))
                    if following + 1 == end:
                        del gaps[n]
                    else:
                        gaps[n] = (behind, stream, following + 1, end, before)
                    break
        self._new.execute("DROP TABLE taken")
        if left:
            there = (number for number, name in self._streams.items() if name == LOST_STREAM)
            number = next(there, max(self._streams, default=0) + 1)
            self._streams[number] = LOST_STREAM
            [last] = self._new.execute(_LAST_SEQ, (number, number)).fetchone()
            for seq, (position, chain) in enumerate(sorted(left.items()), last + 1):
                self._new.execute(put, (position, number, seq, chain))
        sql = "SELECT stream, seq FROM pruned WHERE position = ?"
        for position, chain in self._lost:
            stream, seq = self._new.execute(sql, (position,)).fetchone()
            self._done.lost.append(Tombstone(position, self._streams[stream], seq, chain))

    # -- names and rows

    def _names(self) -> None:
        firsts = dict(self._new.execute(_FIRSTS))
        for number, name in self._streams.items():
            first = firsts.get(number, 1)
            values = (number, name, first, row_crc("stream", number, name, first))
            self._new.execute("INSERT OR IGNORE INTO stream VALUES (?, ?, ?, ?)", values)
        for number, text in self._texts.items():
            row = number, text, row_crc("name", number, text)
            self._new.execute("INSERT OR IGNORE INTO name VALUES (?, ?, ?)", row)

    def _texts_by_number(self, table: str, column: str) -> dict[int, str]:
        """Of each row its number and text; where the row is damaged, what the index over the texts says.

        That needs no checksum: an event is proven with the names of its stream, type and build.
        """
        index = f"SELECT id, {column} FROM {table} INDEXED BY {table}_unique"  # noqa: S608  constants
        rows = self._from_both_ends(index, column)
        found = {number: text for number, text in rows if isinstance(text, str)}
        for values in self._fitting(table):
            found[values[0]] = values[1]
        return found

    def _fitting(self, table: str) -> Iterator[tuple[Any, ...]]:
        """The rows of `table` that fit their checksums."""
        columns = ", ".join(SUMMED[table])
        order = SUMMED[table][:1] if table == "usage" else ("rowid",)
        rows = f"SELECT {columns}, crc FROM {table} NOT INDEXED"  # noqa: S608  constants
        for *values, crc in self._from_both_ends(rows, *order):
            with contextlib.suppress(TypeError, ValueError):
                if crc == row_crc(table, *values):
                    yield (*values, crc)
                    continue
            self._done.rows[table] = self._done.rows.get(table, 0) + 1

    def _from_both_ends(self, sql: str, *key: str) -> Iterator[tuple[Any, ...]]:
        """All rows that can be read: up to a damaged page from one end, and from the other end."""
        seen = 0
        for order in ("ASC", "DESC"):
            by = ", ".join(f"{column} {order}" for column in key)
            with contextlib.suppress(*FAULTS):
                for row in self._old.execute(f"{sql} ORDER BY {by}"):
                    seen += 1
                    yield row
                return
            table = sql.partition(" FROM ")[2].split()[0]
            if table not in self._done.cut:
                self._done.cut.append(table)


def _linked(before: bytes, facts: Facts | None) -> bytes:
    """The link behind `before`, b"" if there can be none."""
    if facts is None:
        return b""
    try:
        return link(before, facts)
    except (TypeError, ValueError, OverflowError):
        return b""


def _last(connection: sqlite3.Connection, table: str) -> int:
    with contextlib.suppress(*FAULTS):
        row: Sequence[int] | None = connection.execute(
            f"SELECT position FROM {table} ORDER BY position DESC LIMIT 1"  # noqa: S608  constants
        ).fetchone()
        return row[0] if row else 0
    return 0
