"""What makes the hash chain hold again: the place, or the link, that an event must have had.

An event is proven by its own link, by the event behind it, or, for the newest, by `log.mark`. Where its
content was changed as well, nothing proves its place. Then the index says it; or, if no other place is left
for it, it is the next one of the stream that its row names. Such an event stays damaged, and others go on.
"""

import contextlib
import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.sqlite.mark import Mark
from huahuo.eventstore.sqlite.meta import get_meta
from huahuo.eventstore.sqlite.moved_rows import Moved, exchanged
from huahuo.eventstore.sqlite.naming import Naming
from huahuo.eventstore.sqlite.row_links import COLUMNS, ENTITY, TOMBSTONE_COLUMNS, Mend, Row, RowLinks
from huahuo.eventstore.sqlite.salvage import FAULTS
from huahuo.eventstore.sqlite.tail_check import TAIL_EVENTS
from huahuo.eventstore.sqlite.tombstones import misnumbered

TRIES_MAX: Final = 1_000_000
"""So many places and links are tried for all damaged rows together: about 3 s."""
_SEQS_TRIED: Final = 64
_LOOKED_UP_MAX: Final = 64
"""Of no more rows the index is searched by position: it has no order for that."""
_EVENTS: Final = f"SELECT {COLUMNS} FROM event WHERE position > ? AND position <= ? ORDER BY position"  # noqa: S608  constant
_PRUNED: Final = (
    "SELECT position, stream, seq, chain FROM pruned WHERE position > ? AND position <= ? ORDER BY position"
)
_COUNT: Final = "SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM pruned)"
_PLACES: Final = (
    "SELECT position, stream, seq, 0 FROM event UNION ALL SELECT position, stream, seq, 1 FROM pruned"
    " ORDER BY position"
)
_INDEXED: Final = "SELECT stream, seq FROM seq_index WHERE position = ?"
_LAST: Final = (
    "SELECT max((SELECT coalesce(max(seq), 0) FROM seq_index WHERE stream = :stream AND position < :at),"
    " (SELECT coalesce(max(seq), 0) FROM pruned WHERE stream = :stream AND position < :at))"
)
_BYTES: Final = 256


class _Misfit(NamedTuple):
    """An event that does not fit the link `before` it."""

    row: Row
    before: bytes


class Proofs:
    """See the module. `marks` say what link the newest event has."""

    def __init__(self, connection: sqlite3.Connection, naming: Naming, marks: Sequence[Mark]) -> None:
        self._connection = connection
        self._links = RowLinks(connection, naming)
        self._marked = {mark.position: mark.chain for mark in marks}
        self._tries = TRIES_MAX
        self._lasts: dict[int, int] = {}
        """The newest seq of each stream, of those that were walked and are proven."""
        self._indexed: dict[int, list[tuple[int, int]]] = {}
        """What the index says of the positions that were looked up."""
        self.unfit: dict[int, Row] = {}
        """The events, by position, that are not what was written although all mends are made."""
        self._gaps: set[tuple[int, int]] = set()
        """Stream and seq of events that must stand before one that is proven, and were not met."""
        self.mends: list[Mend] = []

    def run(self, *, whole: bool) -> list[Mend]:
        """What must be mended among the newest events, or with `whole` among all."""
        [count] = self._connection.execute(_COUNT).fetchone()
        moved = Moved(self._connection, self._links, count)
        self.mends += moved.mends
        indexed = 0
        with contextlib.suppress(Corrupt):
            indexed = int(get_meta(self._connection, "indexed") or b"0")
        after = 0 if whole else max(min(indexed, count - TAIL_EVENTS), 0)
        self._walk(after, count, moved)
        exchanges = exchanged(self._connection, self._links, self.unfit)
        self.mends += exchanges
        for mend in exchanges:
            for position in mend.positions:
                self.unfit.pop(position, None)
        if not exchanges:
            self._assume()
        if whole and not self.mends:
            self._renumber()
        return self.mends

    def _renumber(self) -> None:
        for tombstone, (stream, seq) in misnumbered(self._connection.execute(_PLACES)):
            for column, old, new in (("stream", tombstone.stream, stream), ("seq", tombstone.seq, seq)):
                if old != new:
                    self.mends.append(Mend("pruned", tombstone.position, column, new))

    def _walk(self, after: int, count: int, moved: Moved) -> None:
        before, at = self._links.at(after), after
        waiting: _Misfit | None = None
        tombstone = 0
        for row in self._rows(after, count, moved):
            if row[0] != at + 1:
                before, tombstone = None, 0
            at = row[0]
            if waiting is not None and (found := self._place(waiting, row)):
                before = found
            waiting = None
            if len(row) == TOMBSTONE_COLUMNS:
                before, tombstone = row[-1], at
                self._lasts[row[1]] = row[2]
                continue
            linked = self._links.of(before, row) if before is not None else b""
            fits = linked == row[-1]
            if before and linked and not fits and tombstone and (found := self._joining(before, row)):
                self.mends.append(Mend("pruned", tombstone, "chain", found))
                fits = True
            if fits:
                missing = range(self._last(row[1], at) + 1, row[2])
                self._gaps.update((row[1], seq) for seq in missing[:_SEQS_TRIED])
                self._lasts[row[1]] = row[2]
            elif before is not None:
                waiting = _Misfit(row, before)
            before, tombstone = (row[-1] if isinstance(row[-1], bytes) else None), 0
        if waiting is not None:
            self._place(waiting, None)

    def _rows(self, after: int, count: int, moved: Moved) -> Iterator[Row]:
        """All rows with a position in (after, count], each where it belongs."""
        bounds = (after, count)
        kept = (
            (row for row in self._connection.execute(sql, bounds) if (row[0], len(row)) not in moved.strays)
            for sql in (_EVENTS, _PRUNED)
        )
        brought = sorted(row for row in moved.rows if row[0] > after)
        return heapq.merge(*kept, brought, key=lambda row: row[0])

    def _place(self, misfit: _Misfit, following: Row | None) -> bytes:
        """Find the stream and seq with which the event fits, and its link if another one is written.

        Returns its link, b"" if nothing proves one.
        """
        row, before = misfit
        for stream, seq in self._places(row):
            if self._tries <= 0:
                break
            self._tries -= 1 if following is None else 2
            linked = self._links.of(before, row, stream=stream, seq=seq)
            if linked and (linked == row[-1] or self._agrees(linked, row[0], following)):
                for column, old, new in (
                    ("stream", row[1], stream),
                    ("seq", row[2], seq),
                    ("chain", row[-1], linked),
                ):
                    if old != new:
                        self.mends.append(Mend("event", row[0], column, new))
                self._lasts[stream] = seq
                return linked
        self.unfit[row[0]] = row
        marked = self._marked.get(row[0])
        if marked is not None and marked != row[-1] and following is None:
            self.mends.append(Mend("event", row[0], "chain", marked))
        return b""

    def _agrees(self, linked: bytes, position: int, following: Row | None) -> bool:
        if following is None:
            return self._marked.get(position) == linked
        return self._links.leads(linked, following)

    def _places(self, row: Row) -> Iterator[tuple[int, int]]:
        position, stream, seq = row[:3]
        yield stream, seq
        yield from self._look_up(position)
        last = self._last(stream, position)
        for one in range(last + 1, last + 1 + _SEQS_TRIED):
            yield stream, one
        for other in self._links.names:
            yield other, seq
        for other in self._links.names:
            self._tries -= 1
            yield other, self._last(other, position) + 1

    def _look_up(self, position: int) -> list[tuple[int, int]]:
        """What the index says of a position."""
        if position not in self._indexed and len(self._indexed) < _LOOKED_UP_MAX:
            self._indexed[position] = []
            with contextlib.suppress(*FAULTS):
                self._indexed[position] = self._connection.execute(_INDEXED, (position,)).fetchall()
        return self._indexed.get(position, [])

    def _last(self, stream: int, position: int) -> int:
        """The newest seq of a stream before `position`."""
        last = self._lasts.get(stream)
        if last is None:
            last = 0
            with contextlib.suppress(*FAULTS):
                asked = {"stream": stream, "at": position}
                [last] = self._connection.execute(_LAST, asked).fetchone()
        return last

    # -- where nothing proves a place

    def _assume(self) -> None:
        """Give events that do not fit the only place that is left for them. They stay damaged there."""
        placed = {mend.position for mend in self.mends if mend.column in ("stream", "seq")}
        unfit = {at: row for at, row in self.unfit.items() if at not in placed and not self._is_possible(row)}
        gaps = self._gaps - {row[1:3] for row in self.unfit.values()}
        for position, row in unfit.items():
            place = self._only_place(row, gaps, alone=len(unfit) == 1)
            if place is not None:
                for column, old, new in zip(("stream", "seq"), row[1:3], place, strict=True):
                    if old != new:
                        self.mends.append(Mend("event", position, column, new))
                self._lasts[place[0]] = place[1]

    def _is_possible(self, row: Row) -> bool:
        position, stream, seq = row[:3]
        is_next = stream in self._links.names and seq == self._last(stream, position) + 1
        return (is_next or row[1:3] in self._gaps) and self._look_up(position) in ([], [row[1:3]])

    def _only_place(self, row: Row, gaps: set[tuple[int, int]], *, alone: bool) -> tuple[int, int] | None:
        position, stream, seq = row[:3]
        told = self._look_up(position)
        if told:
            return told[0] if len(told) == 1 else None
        if gaps:  # of several, the search in the pages of the file knows more
            return next(iter(gaps)) if alone and len(gaps) == 1 else None
        names = self._links.names
        if row[ENTITY]:  # mostly the name of the stream
            own = next((number for number in names if names[number] == row[ENTITY]), None)
            if own is not None:
                due = self._last(own, position) + 1
                return (own, due) if own == stream or due == seq else None
        if stream not in names or any(self._last(other, position) + 1 == seq for other in names):
            return None
        return stream, self._last(stream, position) + 1

    def _joining(self, written: bytes, row: Row) -> bytes:
        """The link, unlike `written` in one byte, that leads to the event `row`; b"" if there is none."""
        changed = bytearray(written)
        for place, byte in enumerate(written):
            if self._tries < _BYTES:
                return b""
            self._tries -= _BYTES
            for other in range(_BYTES):
                changed[place] = other
                if self._links.of(bytes(changed), row) == row[-1]:
                    return bytes(changed)
            changed[place] = byte
        return b""
