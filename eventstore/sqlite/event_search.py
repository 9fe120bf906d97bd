"""The events of a log whose table of them is damaged: found page by page, and proven by the hash chain.

An event at position p is proven by the link of p - 1. One of which a single byte was changed is corrected,
if the link of p is known from p + 1. What is neither found nor corrected is lost; `lost_events` finds out
to which stream it belonged.
"""

import contextlib
import heapq
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from typing import Any, Final

import msgspec

from huahuo.eventstore.core.chain import GENESIS, link
from huahuo.eventstore.errors import MISREAD, Corrupt
from huahuo.eventstore.sqlite.event_pages import TEXTS, EventRow
from huahuo.eventstore.sqlite.lost_events import Gap, Missing, attribute
from huahuo.eventstore.sqlite.meta import get_meta
from huahuo.eventstore.sqlite.naming import Naming
from huahuo.eventstore.sqlite.one_byte import with_one_byte_changed
from huahuo.eventstore.sqlite.salvage import FAULTS
from huahuo.eventstore.sqlite.search_scratch import PUT

_CORRECTED_MAX: Final = 64
"""No more rows are corrected, since that may take a second for each."""
_ROWS_AT_ONCE: Final = 1000
_PRUNED: Final = (
    "SELECT position, stream, seq, chain FROM pruned WHERE position BETWEEN 1 AND ? ORDER BY position"
)
_PLACE: Final = "SELECT position FROM seq_index WHERE stream = ? AND seq = ?"
type Tombstone = tuple[int, int, int, bytes]
"""Position, stream, seq and link of an erased event."""
_TOMBSTONE_COLUMNS: Final = 4
LOST_MAX: Final = 10_000
"""Of more lost events it is not asked to which streams they belonged."""


class Found(msgspec.Struct):
    """What the search found. `scratch` has the events that are whole in its table `event`."""

    scratch: sqlite3.Connection
    end: int
    """Where the log ends."""
    end_link: bytes
    lost: dict[int, tuple[int, int]]
    """Positions of lost events, with the stream and seq of each."""
    unknown: list[int]
    """Positions of lost events of which nothing says to which stream they belonged."""
    links: dict[int, bytes]
    """Links of lost events that are known from the events behind them."""
    corrected: int
    """So many events had one changed byte, and have it no more."""
    nameless: int
    """So many events are taken as they stand, since nothing can prove one without a name."""


class _One(msgspec.Struct):
    """What may be the event at a position. `row` None: a tombstone, of which only the link counts."""

    stream: int
    seq: int
    row: EventRow | None
    links: set[bytes]
    """What may be its link."""
    proven: bool = False
    joined: bytes = b""
    """The link by which it proves the event behind it."""


def search(
    scratch: sqlite3.Connection, connection: sqlite3.Connection, naming: Naming, upto: tuple[int, bytes]
) -> Found | None:
    """Choose the events from what `scan` found. `connection` reads the other tables of the log.

    `upto`: a position that the log reached, and its link. None if pruned events cannot be told from lost
    ones, or if too much is lost.
    """
    [last] = scratch.execute("SELECT coalesce(max(position), 0) FROM found").fetchone()
    pruned = _Tombstones(connection, max(last, upto[0]))  # the last of all is an event
    walk = _Walk(scratch, naming, _Index(connection))
    walk.run(pruned, *upto)
    if walk.is_too_much or (walk.missing.holes and not pruned.are_whole):
        return None
    if walk.missing.holes and sum(len(gap.seqs) for gap in walk.missing.gaps) > LOST_MAX:
        return None  # a tombstone says a seq that was never written
    lost, unknown = attribute(walk.missing, walk.end, walk.names, connection)
    return Found(scratch, walk.end, walk.end_link, lost, unknown, walk.links, walk.corrected, walk.nameless)


class _Tombstones:
    """Those that can be read, one at a time: there may be millions."""

    def __init__(self, connection: sqlite3.Connection, upto: int) -> None:
        self._connection = connection
        self._upto = upto
        self.are_whole = False
        """Whether each could be read, once they were."""

    def __iter__(self) -> Iterator[Tombstone]:
        fit = True
        with contextlib.suppress(*FAULTS):
            for row in self._connection.execute(_PRUNED, (self._upto,)):
                if isinstance(row[-1], bytes) and len(row[-1]) == len(GENESIS):
                    yield row
                else:
                    fit = False
            self.are_whole = fit


class _Index:
    """What the index by stream and seq says of single events."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._complete_to = 0
        with contextlib.suppress(Corrupt, ValueError, *FAULTS):
            self._complete_to = int(get_meta(connection, "indexed") or b"0")

    def denies(self, position: int, stream: int, seq: int) -> bool:
        """Whether the event at `position` is not this one of this stream."""
        with contextlib.suppress(*FAULTS):
            found = self._connection.execute(_PLACE, (stream, seq)).fetchone()
            return position <= self._complete_to and found != (position,)
        return False


class _Walk:
    """Goes over all positions and decides what is the event of each."""

    def __init__(self, scratch: sqlite3.Connection, naming: Naming, index: _Index) -> None:
        self._scratch = scratch
        self._index = index
        self.names, self._texts = naming.streams, naming.texts
        self._unproven = naming.unproven
        self._upto = 0
        self._chosen: list[EventRow] = []
        self._prior: set[bytes] = {GENESIS}
        """What may be the link before the position that is decided next."""
        self.end, self.end_link = 0, GENESIS
        self.corrected = self.nameless = 0
        self.missing = Missing()
        self._count_lost = 0
        self.links: dict[int, bytes] = {}

    @property
    def is_too_much(self) -> bool:
        """Whether more is lost than is told apart."""
        return self._count_lost > LOST_MAX or len(self.links) > LOST_MAX

    def run(self, pruned: Iterable[Tombstone], upto: int, upto_link: bytes) -> None:
        """`pruned`: the tombstones, by position. The log reached `upto`, whose link is `upto_link`."""
        self._upto = upto
        last, before = 0, [_One(0, 0, None, {GENESIS}, proven=True)]
        for position, group in groupby(self._items(pruned), key=_position):
            items = list(dict.fromkeys(group))
            # An erased event may still be on a page that nothing refers to: its tombstone counts alone.
            erased = [item for item in items if len(item) == _TOMBSTONE_COLUMNS]
            ones = [self._one(item) for item in erased or items]
            if position == last + 1:
                for old in before:
                    for one in ones:
                        self._join(old, one)
            self._settle(last, before)
            if self.is_too_much:
                return
            if position != last + 1:
                self._prior = set()
            last, before = position, ones
        if last == upto:
            for one in before:
                one.joined = one.joined or (upto_link if upto_link in one.links else b"")
        self._settle(last, before)
        if self.end < upto:
            self._lose(range(self.end + 1, upto + 1))
            self.end, self.end_link = upto, upto_link
            self.links[upto] = upto_link
        self._flush()

    def _lose(self, positions: range) -> None:
        self.missing.holes.append(positions)
        self._count_lost += len(positions)

    def _items(self, pruned: Iterable[Tombstone]) -> Iterator[tuple[Any, ...]]:
        rows = self._scratch.execute("SELECT * FROM found ORDER BY position")
        return heapq.merge(rows, pruned, key=_position)

    def _one(self, item: tuple[Any, ...]) -> _One:
        if len(item) == _TOMBSTONE_COLUMNS:
            return _One(item[1], item[2], None, {item[3]}, proven=True)
        return _One(item[1], item[2], item, {item[-1]})

    def _link(self, before: bytes, row: EventRow) -> bytes:
        """The link of `row` behind `before`; none if it cannot have been written like this."""
        position, stream, seq, type_, *middle, build, body, _chain = row
        try:
            facts = (position, self.names[stream], seq, self._texts[type_], body, *middle, self._texts[build])
            return link(before, facts)
        except (KeyError, *MISREAD):
            return b""

    def _join(self, old: _One, one: _One) -> None:
        if one.row is None:
            return
        for before in tuple(old.links):
            linked = self._link(before, one.row)
            if linked and linked == one.row[-1]:
                one.proven, old.joined = True, before
            elif linked and old.proven:
                one.links.add(linked)

    def _settle(self, position: int, ones: list[_One]) -> None:
        """Take the event at `position`, if it is whole or can be made so."""
        if not position:
            return
        one = next((one for one in ones if one.proven and one.joined), None)
        one = one or next((one for one in ones if one.proven), None)
        if one is None:
            one = next((one for one in ones if one.joined), None)
            row = None if one is None else self._corrected(one)
            if (
                row is None
                and self._has_no_name(position, ones[0])
                and position <= max(self.end + 1, self._upto)
            ):
                row = ones[0].row  # nothing can prove it until its name is known again
                self.nameless += 1
            if row is None:
                self._prior = {one.joined} if one is not None else set()
                if one is not None:
                    self.links[position] = one.joined
                self.missing.told[position] = ones[0].stream, ones[0].seq
                return
            one = _One(row[1], row[2], row, {row[-1]}, proven=True)
        self._take(position, one)

    def _has_no_name(self, position: int, one: _One) -> bool:
        """Whether the name of the event's stream, of its type or of its build is lost.

        A number that never had a name was changed, if the index knows the event by another one.
        """
        if one.stream not in self.names and self._index.denies(position, one.stream, one.seq):
            return False
        if one.row is None or not all(isinstance(one.row[column], str) for column in TEXTS):
            return False
        texts = self._texts.keys() - self._unproven
        return not (one.stream in self.names and {one.row[3], one.row[10]} <= texts)

    def _corrected(self, one: _One) -> EventRow | None:
        """The row of an event whose link is known, with what was changed in it put right."""
        assert one.row is not None, "a tombstone is taken as it is"
        if self.corrected >= _CORRECTED_MAX:
            return None
        for before in self._prior:
            for row in chain((one.row,), with_one_byte_changed(one.row)):
                if self._link(before, row) == one.joined:
                    self.corrected += 1
                    return (*row[:-1], one.joined)
        return None

    def _take(self, position: int, one: _One) -> None:
        if position > self.end + 1:
            self._lose(range(self.end + 1, position))
        last, at = self.missing.lasts.get(one.stream, (0, 0))
        if one.seq > last + 1:
            self.missing.gaps.append(Gap(one.stream, range(last + 1, one.seq), at, position))
        self.missing.lasts[one.stream] = (one.seq, position)
        [self.end_link] = one.links if one.row is None else (one.row[-1],)
        self.end = position
        self._prior = {self.end_link}
        if one.row is not None:
            self._chosen.append(one.row)
            if len(self._chosen) >= _ROWS_AT_ONCE:
                self._flush()

    def _flush(self) -> None:
        self._scratch.executemany(PUT.format("event"), self._chosen)
        self._chosen.clear()


def _position(item: tuple[Any, ...]) -> int:
    return int(item[0])
