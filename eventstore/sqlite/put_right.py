"""Events and tombstones of which one column was changed that says where they belong.

That is the position, the stream, the seq or the link. The hash chain covers all of them, so a value that
makes it hold is the one that was written.
"""

import contextlib
import heapq
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from huahuo.eventstore.core.chain import GENESIS, link
from huahuo.eventstore.errors import MISREAD, Corrupt, EventStoreError
from huahuo.eventstore.sqlite.loss import untouched
from huahuo.eventstore.sqlite.mark import Mark
from huahuo.eventstore.sqlite.meta import get_meta
from huahuo.eventstore.sqlite.naming import Naming, read_naming
from huahuo.eventstore.sqlite.salvage import FAULTS
from huahuo.eventstore.sqlite.schema import connect_writer, is_old, made_by
from huahuo.eventstore.sqlite.tail_check import TAIL_EVENTS
from huahuo.eventstore.sqlite.tombstones import misnumbered
from huahuo.eventstore.sqlite.wal_frames import read_frames

PLACE: Final = "the place of an event"
TRIES_MAX: Final = 1_000_000
"""So many places and links are tried for all damaged rows together: about 3 s."""
_STRAYS_MAX: Final = 64
"""Of more rows whose position cannot be theirs, none is moved."""
_SEQS_TRIED: Final = 64
_LOOKED_UP_MAX: Final = 64
"""Of no more rows the index is searched by position: it has no order for that."""
_COLUMNS: Final = (
    "position, stream, seq, type, body, version, ts, entity, principal, command_id, cause, build, chain"
)
_EVENTS: Final = f"SELECT {_COLUMNS} FROM event WHERE position > ? AND position <= ? ORDER BY position"  # noqa: S608  constant
_PRUNED: Final = (
    "SELECT position, stream, seq, chain FROM pruned WHERE position > ? AND position <= ? ORDER BY position"
)
_STRAY_EVENTS: Final = (
    f"SELECT {_COLUMNS} FROM event WHERE position < 1 OR position > :count"  # noqa: S608  constant
    f" UNION SELECT {_COLUMNS} FROM event WHERE position IN (SELECT position FROM pruned) LIMIT :most"
)
_STRAY_TOMBSTONES: Final = (
    "SELECT position, stream, seq, chain FROM pruned WHERE position < 1 OR position > :count"
    " UNION SELECT position, stream, seq, chain FROM pruned WHERE position IN (SELECT position FROM event)"
    " LIMIT :most"
)
_COUNT: Final = "SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM pruned)"
_TAKEN: Final = (
    "SELECT position FROM event WHERE position BETWEEN 1 AND :count UNION"
    " SELECT position FROM pruned WHERE position BETWEEN 1 AND :count ORDER BY position"
)
_PLACES: Final = (
    "SELECT position, stream, seq, 0 FROM event UNION ALL SELECT position, stream, seq, 1 FROM pruned"
    " ORDER BY position"
)
_INDEXED: Final = "SELECT stream, seq FROM seq_index WHERE position = ?"
_LAST: Final = (
    "SELECT max((SELECT coalesce(max(seq), 0) FROM seq_index WHERE stream = :stream AND position < :at),"
    " (SELECT coalesce(max(seq), 0) FROM pruned WHERE stream = :stream AND position < :at))"
)
_TOMBSTONE_COLUMNS: Final = 4
_BYTES: Final = 256

_log = structlog.get_logger(__name__)

type Row = tuple[Any, ...]


class Mend(NamedTuple):
    """In the row of `table` at `position`, `column` must be `value`."""

    table: str
    position: int
    column: str
    value: int | bytes

    @property
    def positions(self) -> Iterator[int]:
        """Those at which an event did not fit, or was missing, because of this."""
        for position in (self.position, self.value):
            if isinstance(position, int):
                yield from (position, position + 1)
        if self.column == "position" and self.position < 1:
            yield 1


class _Misfit(NamedTuple):
    """An event that does not fit the link `before` it. As it stands, its link would be `computed`."""

    row: Row
    before: bytes
    computed: bytes


def put_right(path: Path, marks: Sequence[Mark], *, whole: bool = False) -> Corrupt | None:
    """Mend what can be proven among the newest events, or with `whole` among all.

    Returns what was wrong, None if nothing was mended. No connection to the file may be open in this process.
    """
    if not path.exists():
        return None
    frames = read_frames(path.with_name(f"{path.name}-wal"))
    if frames.bad or frames.header_bad:
        return None  # the newest rows may be in frames that SQLite does not read
    try:
        with untouched(path) as connection:
            mends = find_mends(connection, read_naming(connection, whole=False), marks, whole=whole)
        if not mends:
            return None
        with contextlib.closing(connect_writer(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for table, position, column, value in mends:
                sql = f"UPDATE {table} SET {column} = ? WHERE position = ?"  # noqa: S608  constants
                connection.execute(sql, (value, position))
            connection.execute("COMMIT")
    except (EventStoreError, *FAULTS):
        return None
    _log.warning("events_put_right", count=len(mends), first=mends[0].position, column=mends[0].column)
    return Corrupt(PLACE, _say(mends))


def _say(mends: Sequence[Mend]) -> str:
    first = mends[0]
    what = "event" if first.table == "event" else "tombstone"
    more = f", and {len(mends) - 1} more," if len(mends) > 1 else ""
    column = "link" if first.column == "chain" else first.column
    return f"the {column} of the {what} at {first.position}{more} was changed; the hash chain put it right"


def find_mends(
    connection: sqlite3.Connection, naming: Naming, marks: Sequence[Mark] = (), *, whole: bool = False
) -> list[Mend]:
    """What makes the hash chain hold. One row is mended at most once: two changes in it are not found."""
    if is_old(connection) or not made_by(connection, "event"):
        return []
    return _Proofs(connection, naming, marks).run(whole=whole)


class _Proofs:
    def __init__(self, connection: sqlite3.Connection, naming: Naming, marks: Sequence[Mark]) -> None:
        self._connection = connection
        self._names, self._texts = naming.streams, naming.texts
        self._marked = {mark.position: mark.chain for mark in marks}
        self._tries = TRIES_MAX
        self._looked_up = 0
        self._lasts: dict[int, int] = {}
        """The newest seq of each stream, of those that were walked and are proven."""
        self.mends: list[Mend] = []

    def run(self, *, whole: bool) -> list[Mend]:
        [count] = self._connection.execute(_COUNT).fetchone()
        moved, strays = self._moved(count)
        indexed = 0
        with contextlib.suppress(Corrupt):
            indexed = int(get_meta(self._connection, "indexed") or b"0")
        after = 0 if whole else max(min(indexed, count - TAIL_EVENTS), 0)
        self._walk(after, count, moved, strays)
        if whole and not self.mends:
            self._renumber()
        return self.mends

    def _renumber(self) -> None:
        for tombstone, (stream, seq) in misnumbered(self._connection.execute(_PLACES)):
            for column, old, new in (("stream", tombstone.stream, stream), ("seq", tombstone.seq, seq)):
                if old != new:
                    self.mends.append(Mend("pruned", tombstone.position, column, new))

    # -- positions

    def _moved(self, count: int) -> tuple[list[Row], set[tuple[int, int]]]:
        """The rows whose position was changed, with the one that they must have; and where they are now."""
        asked = {"count": count, "most": _STRAYS_MAX + 1}
        strays = [
            row for sql in (_STRAY_EVENTS, _STRAY_TOMBSTONES) for row in self._connection.execute(sql, asked)
        ]
        if not strays or len(strays) > _STRAYS_MAX:
            return [], set()
        moved: list[Row] = []
        rest, holes = strays, self._holes(count)
        for hole in holes:
            found = next((row for row in rest if self._belongs(row, hole)), None)
            if found is None and len(rest) == len(holes) == 1 and len(rest[0]) == _TOMBSTONE_COLUMNS:
                found = rest[0]  # no link proves it between tombstones, but nothing else is missing
            if found is not None:
                table = "pruned" if len(found) == _TOMBSTONE_COLUMNS else "event"
                self.mends.append(Mend(table, found[0], "position", hole))
                moved.append((hole, *found[1:]))
                rest = [row for row in rest if row is not found]
        return moved, {(row[0], len(row)) for row in strays}

    def _holes(self, count: int) -> list[int]:
        holes: list[int] = []
        last = 0
        taken = (position for (position,) in self._connection.execute(_TAKEN, {"count": count}))
        for position in chain(taken, (count + 1,)):
            holes += islice(range(last + 1, position), _STRAYS_MAX + 1 - len(holes))
            last = position
        return holes

    def _belongs(self, row: Row, hole: int) -> bool:
        if len(row) == _TOMBSTONE_COLUMNS:
            following = self._event(hole + 1)
            return following is not None and self._link(row[-1], following) == following[-1]
        before = self._link_at(hole - 1)
        return before is not None and self._link(before, row, position=hole) == row[-1]

    def _event(self, position: int) -> Row | None:
        sql = f"SELECT {_COLUMNS} FROM event WHERE position = ?"  # noqa: S608  constant
        row: Row | None = self._connection.execute(sql, (position,)).fetchone()
        return row

    def _link_at(self, position: int) -> bytes | None:
        if not position:
            return GENESIS
        for table in ("event", "pruned"):
            sql = f"SELECT chain FROM {table} WHERE position = ?"  # noqa: S608  two constants
            row = self._connection.execute(sql, (position,)).fetchone()
            if row is not None:
                return row[0] if isinstance(row[0], bytes) else None
        return None

    # -- streams, seqs and links

    def _walk(self, after: int, count: int, moved: Iterable[Row], strays: set[tuple[int, int]]) -> None:
        before, at = self._link_at(after), after
        waiting: _Misfit | None = None
        tombstone = 0
        for row in self._rows(after, count, moved, strays):
            if row[0] != at + 1:
                before, tombstone = None, 0
            at = row[0]
            if len(row) == _TOMBSTONE_COLUMNS:
                if waiting is not None:
                    self._place(waiting)
                before, waiting, tombstone = row[-1], None, at
                continue
            linked = self._link(before, row) if before is not None else b""
            fits = linked == row[-1]
            if waiting is not None:
                if not fits and waiting.computed and self._link(waiting.computed, row) == row[-1]:
                    self.mends.append(Mend("event", waiting.row[0], "chain", waiting.computed))
                    self._lasts[waiting.row[1]] = waiting.row[2]
                    fits = True
                else:
                    self._place(waiting)
                waiting = None
            elif before and linked and not fits and tombstone and (found := self._joining(before, row)):
                self.mends.append(Mend("pruned", tombstone, "chain", found))
                fits = True
            if fits:
                self._lasts[row[1]] = row[2]
            elif before is not None:
                waiting = _Misfit(row, before, linked)
            before, tombstone = (row[-1] if isinstance(row[-1], bytes) else None), 0
        if waiting is not None:
            if waiting.computed and self._marked.get(at) == waiting.computed:
                self.mends.append(Mend("event", at, "chain", waiting.computed))
            else:
                self._place(waiting)

    def _rows(
        self, after: int, count: int, moved: Iterable[Row], strays: set[tuple[int, int]]
    ) -> Iterator[Row]:
        """All rows with a position in (after, count], each where it belongs."""
        bounds = (after, count)
        kept = (
            (row for row in self._connection.execute(sql, bounds) if (row[0], len(row)) not in strays)
            for sql in (_EVENTS, _PRUNED)
        )
        return heapq.merge(*kept, sorted(row for row in moved if row[0] > after), key=lambda row: row[0])

    def _place(self, misfit: _Misfit) -> None:
        """Find the stream and seq with which the event fits."""
        row = misfit.row
        for stream, seq in self._places(row):
            if not self._tries:
                return
            self._tries -= 1
            if self._link(misfit.before, row, stream=stream, seq=seq) == row[-1]:
                for column, old, new in (("stream", row[1], stream), ("seq", row[2], seq)):
                    if old != new:
                        self.mends.append(Mend("event", row[0], column, new))
                self._lasts[stream] = seq
                return

    def _places(self, row: Row) -> Iterator[tuple[int, int]]:
        position, stream, seq = row[:3]
        if self._looked_up < _LOOKED_UP_MAX:
            self._looked_up += 1
            with contextlib.suppress(*FAULTS):
                yield from self._connection.execute(_INDEXED, (position,)).fetchall()
        last = self._lasts.get(stream)
        if last is None:
            with contextlib.suppress(*FAULTS):
                asked = {"stream": stream, "at": position}
                [last] = self._connection.execute(_LAST, asked).fetchone()
        for one in range((last or 0) + 1, (last or 0) + 1 + _SEQS_TRIED):
            yield stream, one
        for other in self._names:
            yield other, seq

    def _joining(self, written: bytes, row: Row) -> bytes:
        """The link, unlike `written` in one byte, that leads to the event `row`; b"" if there is none."""
        changed = bytearray(written)
        for place, byte in enumerate(written):
            if self._tries < _BYTES:
                return b""
            self._tries -= _BYTES
            for other in range(_BYTES):
                changed[place] = other
                if self._link(bytes(changed), row) == row[-1]:
                    return bytes(changed)
            changed[place] = byte
        return b""

    def _link(
        self, before: bytes, row: Row, *, position: int = 0, stream: int | None = None, seq: int | None = None
    ) -> bytes:
        """The link of `row` behind `before`, with another place if one is passed; b"": it can have none."""
        try:
            name = self._names[row[1] if stream is None else stream]
            facts = (
                position or row[0], name, row[2] if seq is None else seq,
                self._texts[row[3]], *row[4:11], self._texts[row[11]],
            )  # fmt: skip
            return link(before, facts)
        except (KeyError, *MISREAD):
            return b""
