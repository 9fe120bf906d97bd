"""What a log must know before its first append: its end, heads, names and counters, loaded and proven.

The head of a stream is its last row of the index by stream and seq. If that row were lost, or changed, the
next event would get a seq that was given out before. The seqs of a stream have no gap, and a row is kept
in the order of stream and seq. So three facts prove all heads without a look at the events: there are as
many rows as events, each stream begins at its first kept seq, and at either end the row next to the end
has the next seq.

The newest events are checked against the hash chain at every opening.
"""

import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from copy import copy
from itertools import batched, compress
from typing import Final

from huahuo.eventstore.core.chain import GENESIS, merged, misfits
from huahuo.eventstore.core.storage_port import Loaded, Place
from huahuo.eventstore.errors import MISREAD, Corrupt, Damaged
from huahuo.eventstore.model import Head, StoredEvent, Tombstone
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.connections import passing_through, translated
from huahuo.eventstore.sqlite.damage import read_counters, sum_of_counters
from huahuo.eventstore.sqlite.directory_lock import Left
from huahuo.eventstore.sqlite.events import EVENTS_BY_POSITION, is_pruned, select_events, select_tombstones
from huahuo.eventstore.sqlite.names import (
    NOT_HERE,
    EndedFilter,
    Names,
    Naming,
    PackedHeads,
    PackedNames,
    select_head,
    select_number,
)
from huahuo.eventstore.sqlite.schema import get_meta
from huahuo.eventstore.sqlite.seq_index import Links
from huahuo.eventstore.sqlite.unindexed import Unindexed

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


_ENDS = (
    "SELECT id, ended.stream IS NOT NULL, CASE WHEN ended.stream IS NULL THEN"
    " (SELECT max(seq) FROM seq_index WHERE stream = stream.id) END"
    " FROM stream NOT INDEXED LEFT JOIN ended ON ended.stream = stream.id ORDER BY id"
)
_ENDED_MANY = 8
"""If more than one in this many streams has ended, their names do not stay in memory."""


def load(
    connection: sqlite3.Connection,
    names: Names,
    unindexed: Unindexed,
    naming: Naming,
    *,
    summed: bool,
    links: Links | None = None,
    ends: Ends | None = None,
) -> Loaded:
    """Read the log's end, heads and counters; fill `names` and `unindexed`.

    The caller's transaction makes all of it one snapshot. `summed`: also compute the checksums of events
    that are not indexed yet. `links`: those that are known, for the heads. `ends`: those of all streams, if
    they were read in this transaction; no event was added since.

    Raises:
        Corrupt: a counter or a value of `meta` does not fit its checksum.
    """
    ended = EndedFilter()
    seq_index.look(connection, unindexed, naming, summed=summed)
    ids = {text: number for number, text in naming.texts.items()}
    with passing_through(connection):
        if ends is None:
            ends = connection.execute(_ENDS)
        heads, packed = _heads(ends, naming, unindexed, links or {}, ended)
    names.replace(packed.names, {}, ids, ended)
    counters = read_counters(connection)
    log_id = get_meta(connection, "log")
    if log_id is None:
        raise Corrupt("the log's own value `log`", "missing")
    position, chain = select_end(connection)
    return Loaded(log_id.decode(), position, chain, heads, counters, packed=packed)


def _heads(
    ends: Ends,
    naming: Naming,
    unindexed: Unindexed,
    links: Links,
    ended: EndedFilter,
) -> tuple[dict[str, Head], PackedHeads]:
    """The heads of all streams; those that ended are added to `ended`."""
    heads: dict[str, Head] = {}
    names, firsts, has_newer = naming.streams, naming.firsts, unindexed.count > 0
    packed = names
    lasts = _lasts(ends, packed) if isinstance(ends, Columns) else None
    each: Iterable[tuple[int, tuple[int, int, int | None]]]
    if lasts is not None and isinstance(ends, Columns):
        seqs = lasts
        each = _odd_ends(ends, seqs, {*unindexed.streams, *firsts, *links})
    else:
        seqs = array("I", (NOT_HERE,)) * len(packed)
        each = enumerate(ends)  # both are in the order of the numbers, from one snapshot
    kept = bytearray(b"\1") * len(seqs)
    for place, (number, has_ended, seq) in each:
        if has_ended:
            ended.add(names[number])
            kept[place] = 0
            continue
        first = firsts.get(number, 1)
        last = (unindexed.last(number) if has_newer else 0) or (first - 1 if seq is None else seq)
        link = links[number][1] if number in links and links[number][0] == last else b""
        if link or first != 1 or last >= NOT_HERE:
            heads[names[number]] = Head(first, last, link)
        else:
            seqs[place] = last
    if kept.count(0) * _ENDED_MANY > len(kept):
        packed, seqs = packed.only(kept), array("I", compress(seqs, kept))
    return heads, PackedHeads(packed, seqs)


def _lasts(ends: Columns, names: PackedNames) -> "array[int] | None":
    """The last seq of each stream in the index, 0 if it has none there. None: look at each by itself."""
    if not names.is_dense or len(ends.seqs) != len(names):
        return None
    try:
        lasts = array("I", ends.seqs)
    except OverflowError:
        return None
    return None if NOT_HERE in lasts else lasts


def _odd_ends(
    ends: Columns, lasts: "array[int]", others: set[int]
) -> Iterator[tuple[int, tuple[int, int, int | None]]]:
    """Of streams that ended and of `others`, with their places. Of these, `lasts` has `NOT_HERE`."""
    for number in sorted({*compress(ends.numbers, ends.ended), *others}):
        place = number - 1
        if 0 <= place < len(lasts):
            last, lasts[place] = lasts[place], NOT_HERE
            yield place, (number, ends.ended[place], last or None)


def select_end(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """The last position and its link of the chain: an event's, or a tombstone's behind a salvage."""
    sql = (
        "SELECT position, chain FROM event UNION ALL SELECT position, chain FROM pruned"
        " ORDER BY position DESC LIMIT 1"
    )
    row: tuple[int, bytes] | None = connection.execute(sql).fetchone()
    return row or (0, GENESIS)


def note_of_end(connection: sqlite3.Connection, log_id: str) -> Left:
    """What a clean close notes of the log."""
    position, chain = select_end(connection)
    counters = read_counters(connection)
    return Left(log=log_id, position=position, chain=chain.hex(), counters=sum_of_counters(counters))


TAIL_EVENTS = 1000
"""How many of the last events are checked against the hash chain at every opening."""
NOT_INDEXED = "it is not in the index by stream and seq"


def _with_stand_ins(names: Names) -> Names:
    """`names`, with a text for each number that has none: such an event does not fit the chain."""
    found = copy(names)
    found.texts = defaultdict(str, names.texts)
    return found


def _check_tail(
    connection: sqlite3.Connection, names: Names, unindexed: Unindexed, loaded: Loaded
) -> list[Corrupt]:
    """Check the last events against the chain, starting from the link before them.

    An event that does not fit is returned, since undamaged streams can go on. A lost event, or a head that
    is too low, would make new events wrong, and raises Damaged.
    """
    start = max(0, loaded.position - TAIL_EVENTS)
    chain = GENESIS
    if start:
        sql = "SELECT chain FROM {} WHERE position = :at"
        sql = f"{sql.format('event')} UNION ALL {sql.format('pruned')}"
        row = connection.execute(sql, {"at": start}).fetchone()
        if row is None:
            raise Damaged(start, "missing")
        chain = row[0]
    bounds = (start, loaded.position, TAIL_EVENTS)
    known = _with_stand_ins(names)
    tail = select_events(connection, known, EVENTS_BY_POSITION, bounds, 1 << 62).events
    pruned: list[Tombstone] = []
    if len(tail) < loaded.position - start:
        pruned = select_tombstones(connection, known, start, loaded.position, TAIL_EVENTS)
    found = [
        Corrupt(f"stream {event.stream}", "the event does not fit the hash chain", position=event.position)
        for event in misfits(chain, start, {}, merged(tail, pruned))
    ]
    unproven = {damage.position for damage in found}
    place = loaded.place()
    for event in tail:
        if event.position in unproven:
            continue
        head = place.head(event.stream)
        if head is None and (number := select_number(connection, event.stream)) is not None:
            head = select_head(connection, unindexed, number, loaded.position)
        if head is None or head.seq < event.seq:
            raise Damaged(event.position, NOT_INDEXED)
    if not found:
        _note_links(tail, place)
    return found


def _note_links(proven: Sequence[StoredEvent], place: Place) -> None:
    """Keep the links of the newest events in memory: each client that comes back needs that of its stream."""
    for event in proven:
        head = place.head(event.stream)
        if head is not None and head.seq == event.seq and not head.link:
            place.heads[event.stream] = Head(head.first, head.seq, event.chain)
            place.packed.drop(event.stream)


def tail_damage(
    connection: sqlite3.Connection, names: Names, unindexed: Unindexed, loaded: Loaded, left: Left | None
) -> list[Corrupt]:
    """As `_check_tail`, but events that cannot be read are only noted if the log was closed at this position.

    Then its index holds every head, and no number can be given out again.
    """
    try:
        return _check_tail(connection, names, unindexed, loaded)
    except (Damaged, sqlite3.DatabaseError) as error:
        closed_here = left is not None and not left.pid and left.position == loaded.position
        damage = translated(error) if isinstance(error, sqlite3.Error) else error
        if not closed_here or not isinstance(damage, Damaged) or damage.reason == NOT_INDEXED:
            raise
        return [Corrupt("one of the newest events", damage.reason, position=damage.position)]
