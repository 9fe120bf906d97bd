"""The proof, at an opening, that the index by stream and seq has every event and the end of each stream.

The head of a stream is its last row there. If that row were lost, or changed, the next event would get a seq
that was given out before. The seqs of a stream have no gap, and a row is kept in the order of stream and seq.
So three facts prove all heads without a look at the events: there are as many rows as events, each stream
begins at its first kept seq, and at either end the row next to the end has the next seq.
"""

import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import batched
from typing import Final

from huahuo.eventstore.errors import MISREAD, Damaged
from huahuo.eventstore.sqlite.naming import Naming
from huahuo.eventstore.sqlite.page_cache import passing_through
from huahuo.eventstore.sqlite.pages import is_pruned

FALSE_INDEX: Final = "the index by stream and seq is not what was written"
_ROWS_A_STREAM: Final = 16
"""With this many rows for each stream or fewer, one walk over all rows is cheaper than seeks to the ends
of each stream: 0.09 µs a row and 0.6 µs a stream, where the seeks take 2 µs a stream."""
_WALKED_MAX: Final = 200_000
"""An index with this many rows or fewer is always walked, since a walk also finds gaps in the middle."""
_GROUPS: Final = "SELECT stream, min(seq), max(seq), count(*) FROM seq_index GROUP BY stream"
_NO_GROUP: Final = (1 << 63, 0, 0, 0)
"""Stands behind the last one: its number is beyond SQLite's."""
_STREAMS: Final = (
    "SELECT id, ended.stream IS NOT NULL FROM stream NOT INDEXED"
    " LEFT JOIN ended ON ended.stream = stream.id ORDER BY id"
)
_SEEKS: Final = (
    "SELECT id, ended.stream IS NOT NULL,"
    " (SELECT seq FROM seq_index WHERE stream = id ORDER BY seq LIMIT 1),"
    " (SELECT seq FROM seq_index WHERE stream = id ORDER BY seq LIMIT 1 OFFSET 1),"
    " (SELECT seq FROM seq_index WHERE stream = id ORDER BY seq DESC LIMIT 1 OFFSET 1),"
    " (SELECT seq FROM seq_index WHERE stream = id ORDER BY seq DESC LIMIT 1)"
    " FROM stream NOT INDEXED LEFT JOIN ended ON ended.stream = stream.id ORDER BY id"
)
_OUTER: Final = (
    "SELECT (SELECT stream FROM seq_index ORDER BY stream, seq LIMIT 1),"
    " (SELECT stream FROM seq_index ORDER BY stream DESC, seq DESC LIMIT 1)"
)
_ENDED: Final = "SELECT stream FROM ended"
_READ_AT_ONCE: Final = 1000
_COUNTS: Final = "SELECT (SELECT count(*) FROM seq_index), (SELECT count(*) FROM pruned)"


type Ends = Iterable[tuple[int, int, int | None]]
"""Of each stream, by ascending number, whether it ended and its last seq in the index, None if there is none.
"""


class Columns:
    """Implements `Ends`, with an item of three arrays in place of an object for each."""

    def __init__(self, count: int = 0) -> None:
        """`count` streams have the numbers from 1 on. None has a row yet."""
        self.numbers = array("q", range(1, count + 1))
        self.ended = bytearray(count)
        self.seqs = array("q", bytes(8 * count))
        """0 for a stream without a row."""

    def add(self, number: int, ended: int, seq: int | None) -> None:
        """One more stream."""
        self.numbers.append(number)
        self.ended.append(ended)
        self.seqs.append(seq or 0)

    def __iter__(self) -> Iterator[tuple[int, int, int | None]]:
        return zip(self.numbers, self.ended, (seq or None for seq in self.seqs), strict=True)


def prove_index(connection: sqlite3.Connection, naming: Naming, end: int) -> Ends:
    """Prove the whole index of a log that ends at position `end`, in a transaction.

    Raises:
        Damaged: a row is missing, or one that tells where a stream ends is false.
    """
    try:
        with passing_through(connection):
            rows, pruned = connection.execute(_COUNTS).fetchone()
            few = rows <= max(_WALKED_MAX, _ROWS_A_STREAM * len(naming.streams))
            ends, odd = (_walked if few else _sought)(connection, naming)
    except MISREAD:
        raise Damaged(0, FALSE_INDEX) from None
    if rows + pruned != end or not all(_is_gone(connection, naming, number) for number in odd):
        raise Damaged(0, FALSE_INDEX)
    return ends


def _is_gone(connection: sqlite3.Connection, naming: Naming, number: int) -> bool:
    """Whether tombstones are all that is left of a stream, as where a salvage found none of its events."""
    sql = "SELECT count(*) FROM seq_index WHERE stream = ?"
    first = naming.first(number)
    no_row = connection.execute(sql, (number,)).fetchone() == (0,)
    return first > 1 and no_row and is_pruned(connection, number, range(1, first))


def _walked(connection: sqlite3.Connection, naming: Naming) -> tuple[Ends, set[int]]:
    """By all rows as they stand. A stream that is met twice has a row that is not its own."""
    # Closed also where a row is damaged, since an open statement keeps the file locked.
    with closing(connection.execute(_GROUPS)) as rows:
        if naming.streams.is_dense:
            return _compared_in_runs(connection, naming, rows)
        with closing(connection.execute(_STREAMS)) as numbers:
            return _compared(connection, naming, rows, numbers)


def _compared_in_runs(
    connection: sqlite3.Connection, naming: Naming, rows: Iterable[tuple[int, int, int, int]]
) -> tuple[Ends, set[int]]:
    """As `_compared`, of streams with the numbers 1 to their count. Most are told in whole runs."""
    ends, odd, following = Columns(len(naming.streams)), set[int](), 1
    firsts = naming.firsts
    with closing(connection.execute(_ENDED)) as ended:
        for (number,) in ended:
            if 0 < number <= len(ends.ended):
                ends.ended[number - 1] = 1
    for some in batched(rows, _READ_AT_ONCE):
        numbers, lows, highs, counts = zip(*some, strict=True)
        behind = following + len(some)
        is_run = lows.count(1) == len(some) and numbers == (*range(following, behind),)
        is_run = is_run and (not firsts or firsts.keys().isdisjoint(numbers))
        if is_run and highs == counts and behind - 1 <= len(ends.seqs):
            ends.seqs[following - 1 : behind - 1] = array("q", highs)
            following = behind
            continue
        for number, low, high, count in some:
            if not following <= number <= len(ends.seqs):
                odd.add(number)
                continue
            odd.update(range(following, number))
            following = number + 1
            ends.seqs[number - 1] = high
            if not _has_all(connection, naming, number, low, high, count):
                odd.add(number)
    odd.update(range(following, len(ends.seqs) + 1))
    return ends, odd


def _has_all(
    connection: sqlite3.Connection, naming: Naming, number: int, low: int, high: int, count: int
) -> bool:
    """Whether a stream with `count` rows from `low` to `high` has one for each event that it keeps."""
    if low != naming.first(number):
        return False
    kept = high - low + 1
    return count == kept or count + _pruned_between(connection, number, low, high) == kept


def _compared(
    connection: sqlite3.Connection,
    naming: Naming,
    rows: Iterator[tuple[int, int, int, int]],
    numbers: Iterator[tuple[int, int]],
) -> tuple[Ends, set[int]]:
    ends, odd = Columns(), set[int]()
    add_number, add_ended, add_seq = ends.numbers.append, ends.ended.append, ends.seqs.append
    found, low, high, count = next(rows, _NO_GROUP)
    for number, ended in numbers:
        while found < number:
            odd.add(found)
            found, low, high, count = next(rows, _NO_GROUP)
        add_number(number)
        add_ended(ended)
        if found != number:
            odd.add(number)
            add_seq(0)
            continue
        add_seq(high)
        if not _has_all(connection, naming, number, low, high, count):
            odd.add(number)
        found, low, high, count = next(rows, _NO_GROUP)
    if found != _NO_GROUP[0]:
        odd.update((found, *(number for number, *_ in rows)))
    return ends, odd


def _pruned_between(connection: sqlite3.Connection, number: int, low: int, high: int) -> int:
    sql = "SELECT count(DISTINCT seq) FROM pruned WHERE stream = ? AND seq > ? AND seq < ?"
    found: int = connection.execute(sql, (number, low, high)).fetchone()[0]
    return found


def _sought(connection: sqlite3.Connection, naming: Naming) -> tuple[Ends, set[int]]:
    """By two rows at each end of each stream, where there are many rows a stream."""
    ends, odd = Columns(), set[int]()
    numbers: list[int] = []
    with closing(connection.execute(_SEEKS)) as rows:
        for number, ended, *own in rows:
            ends.add(number, ended, own[-1])
            numbers[1:] = (number,)
            if not _is_regular(connection, number, naming.first(number), *own):
                odd.add(number)
    # A row of a stream that has no name is found by no seek. It stands before all others, or behind them.
    outer = connection.execute(_OUTER).fetchone()
    odd.update(number for number in outer if number is not None and number not in numbers)
    return ends, odd


def _is_regular(
    connection: sqlite3.Connection, number: int, first: int,
    low: int | None, second: int | None, before: int | None, high: int | None,
) -> bool:  # fmt: skip
    """Whether these are the first two and the last two seqs of a stream."""
    if low is None or high is None or low != first:
        return False
    if second is None or before is None:
        return low == high and second is before
    if second == low + 1 and before == high - 1:
        return True
    if not (low < second and low <= before < high):
        return False
    gaps = (range(low + 1, second), range(before + 1, high))
    return all(is_pruned(connection, number, gap) for gap in gaps)
