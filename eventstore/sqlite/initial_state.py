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
from collections.abc import Sequence
from contextlib import closing
from itertools import compress
from typing import Final

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.storage_port import NOT_HERE, Loaded, PackedHeads
from huahuo.eventstore.errors import MISREAD, Corrupt, Damaged
from huahuo.eventstore.model import Head
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.connections import passing_through, translated
from huahuo.eventstore.sqlite.damage import read_counters, sum_of_counters
from huahuo.eventstore.sqlite.directory_lock import Left
from huahuo.eventstore.sqlite.events import count_pruned, is_pruned
from huahuo.eventstore.sqlite.names import EndedFilter, Names, Naming
from huahuo.eventstore.sqlite.rows import ALL_HORIZONS, select_range
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
_SEEKS: Final = (
    "SELECT id,"
    " (SELECT seq FROM seq_index WHERE stream = id ORDER BY seq LIMIT 1),"
    " (SELECT seq FROM seq_index WHERE stream = id ORDER BY seq LIMIT 1 OFFSET 1),"
    " (SELECT seq FROM seq_index WHERE stream = id ORDER BY seq DESC LIMIT 1 OFFSET 1),"
    " (SELECT seq FROM seq_index WHERE stream = id ORDER BY seq DESC LIMIT 1)"
    " FROM stream NOT INDEXED ORDER BY id"
)
_OUTER: Final = (
    "SELECT (SELECT stream FROM seq_index ORDER BY stream, seq LIMIT 1),"
    " (SELECT stream FROM seq_index ORDER BY stream DESC, seq DESC LIMIT 1)"
)
_COUNTS: Final = "SELECT (SELECT count(*) FROM seq_index), (SELECT count(*) FROM pruned)"


type Lasts = "array[int]"
"""By the place of a stream's name: its last seq in the index, 0 if it has no row there."""


def prove_index(connection: sqlite3.Connection, naming: Naming, end: int) -> Lasts:
    """Prove the whole index of a log that ends at position `end`, in a transaction.

    Raises:
        Damaged: a row is missing, or one that tells where a stream ends is false.
    """
    lasts = array("q", bytes(8 * len(naming.streams)))
    try:
        with passing_through(connection):
            rows, pruned = connection.execute(_COUNTS).fetchone()
            few = rows <= max(_WALKED_MAX, _ROWS_A_STREAM * len(lasts))
            odd = (_walked if few else _sought)(connection, naming, lasts)
    except MISREAD:
        raise Damaged(0, FALSE_INDEX) from None
    if rows + pruned != end or not all(_is_gone(connection, naming, number) for number in odd):
        raise Damaged(0, FALSE_INDEX)
    return lasts


def _is_gone(connection: sqlite3.Connection, naming: Naming, number: int) -> bool:
    """Whether tombstones are all that is left of a stream, as where a salvage found none of its events."""
    sql = "SELECT count(*) FROM seq_index WHERE stream = ?"
    first = naming.first(number)
    no_row = connection.execute(sql, (number,)).fetchone() == (0,)
    return first > 1 and no_row and is_pruned(connection, number, range(1, first))


def _walked(connection: sqlite3.Connection, naming: Naming, lasts: Lasts) -> set[int]:
    """Fill `lasts` by all rows as they stand; returns the streams that have not exactly their own rows."""
    odd, before, firsts, place_at = set[int](), 0, naming.firsts, naming.streams.place_at
    # Closed also where a row is damaged, since an open statement keeps the file locked.
    with closing(connection.execute(_GROUPS)) as rows:
        for number, low, high, count in rows:
            place = place_at(number)
            if place < 0 or number <= before:  # a stream that is met twice has a row that is not its own
                odd.add(number)
                continue
            before, lasts[place] = number, high
            is_whole = low == 1 and high == count and number not in firsts
            if not is_whole and not _has_all(connection, naming, number, low, high, count):
                odd.add(number)
    if 0 in lasts:
        odd.update(number for number, last in zip(naming.streams, lasts, strict=True) if not last)
    return odd


def _has_all(
    connection: sqlite3.Connection, naming: Naming, number: int, low: int, high: int, count: int
) -> bool:
    """Whether a stream with `count` rows from `low` to `high` has one for each event that it keeps."""
    if low != naming.first(number):
        return False
    kept = high - low + 1
    return count == kept or count + count_pruned(connection, number, range(low + 1, high)) == kept


def _sought(connection: sqlite3.Connection, naming: Naming, lasts: Lasts) -> set[int]:
    """As `_walked`, by two rows at each end of each stream, where there are many rows a stream."""
    odd, number, lowest = set[int](), 0, 0
    with closing(connection.execute(_SEEKS)) as rows:
        for place, (number, *own) in enumerate(rows):
            lowest = lowest or number
            lasts[place] = own[-1] or 0
            if not _is_regular(connection, number, naming.first(number), *own):
                odd.add(number)
    # A row of a stream that has no name is found by no seek. It stands before all others, or behind them.
    outer = connection.execute(_OUTER).fetchone()
    odd.update(one for one in outer if one is not None and one not in (lowest, number))
    return odd


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


_LASTS = (
    "SELECT coalesce((SELECT max(seq) FROM seq_index WHERE stream = stream.id), 0)"
    " FROM stream NOT INDEXED ORDER BY id"
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
    lasts: Lasts | None = None,
) -> Loaded:
    """Read the log's end, heads and counters; fill `names` and `unindexed`.

    The caller's transaction makes all of it one snapshot. `summed`: also compute the checksums of events
    that are not indexed yet. `links`: those that are known, for the heads. `lasts`: of all streams, if they
    were read in this transaction; no event was added since.

    Raises:
        Corrupt: a counter or a value of `meta` does not fit its checksum.
    """
    ended = EndedFilter()
    seq_index.look(connection, unindexed, naming, summed=summed)
    ids = {text: number for number, text in naming.texts.items()}
    with passing_through(connection):
        if lasts is None:
            lasts = array("q", (last for (last,) in connection.execute(_LASTS)))
        numbers = [number for (number,) in connection.execute("SELECT stream FROM ended")]
        heads, packed = _heads(lasts, naming, unindexed, links or {}, numbers, ended)
    names.replace(packed.names, ids, ended)
    counters = read_counters(connection)
    log_id = get_meta(connection, "log")
    if log_id is None:
        raise Corrupt("the log's own value `log`", "missing")
    position, chain = select_end(connection)
    horizons = {key.decode(): int(value) for key, value in select_range(connection, ALL_HORIZONS)}
    return Loaded(log_id.decode(), position, chain, heads, counters, packed=packed, horizons=horizons)


def _heads(
    lasts: Lasts,
    naming: Naming,
    unindexed: Unindexed,
    links: Links,
    ended_numbers: Sequence[int],
    ended: EndedFilter,
) -> tuple[dict[str, Head], PackedHeads]:
    """The heads of all streams; those that ended are added to `ended`."""
    heads: dict[str, Head] = {}
    names, firsts = naming.streams, naming.firsts
    try:
        seqs = array("I", lasts)
    except OverflowError:
        seqs = array("I", (min(last, NOT_HERE) for last in lasts))
    kept = bytearray(b"\1") * len(seqs)
    for number in ended_numbers:
        if (place := names.place_at(number)) >= 0:
            ended.add(names[number])
            kept[place], seqs[place] = 0, NOT_HERE
    long = (number for number, seq in zip(names, seqs, strict=True) if seq == NOT_HERE)
    for number in {*unindexed.streams, *firsts, *links, *(long if NOT_HERE in seqs else ())}:
        place = names.place_at(number)
        if place < 0 or not kept[place]:
            continue
        first = firsts.get(number, 1)
        last = unindexed.last(number) or lasts[place] or first - 1
        link = links[number][1] if number in links and links[number][0] == last else b""
        if link or first != 1 or last >= NOT_HERE:
            heads[names[number]] = Head(first, last, link)
            seqs[place] = NOT_HERE
        else:
            seqs[place] = last
    if kept.count(0) * _ENDED_MANY > len(kept):
        names, seqs = names.only(kept), array("I", compress(seqs, kept))
    return heads, PackedHeads(names, seqs)


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


def _check_tail(connection: sqlite3.Connection, naming: Naming, lasts: Lasts, links: Links) -> list[Corrupt]:
    """Check the last events against the chain, starting from the link before them. `links` gets theirs.

    An event that does not fit is returned, since undamaged streams can go on. A lost event, or a head that
    is too low, would make new events wrong, and raises Damaged.
    """
    last = max(0, select_end(connection)[0] - TAIL_EVENTS)
    if seq_index.link_at(connection, last) is None:
        raise Damaged(last, "missing")
    found: list[Corrupt] = []
    for one in seq_index.walk(connection, last, naming):
        last += 1
        if one.position != last:
            raise Damaged(last, f"missing, the next event stands at {one.position}")
        if one.is_misplaced:
            raise Damaged(last, seq_index.UNPLACED)
        place = naming.streams.place_at(one.stream)
        if one.is_pruned:
            continue
        if not one.fits or place < 0:
            stream = naming.streams.get(one.stream, "")
            found.append(Corrupt(f"stream {stream}", "the event does not fit the hash chain", position=last))
            links.pop(one.stream, None)
        elif lasts[place] < one.seq:
            raise Damaged(last, NOT_INDEXED)
        else:
            links[one.stream] = (one.seq, one.link)
    return found


def tail_damage(
    connection: sqlite3.Connection, naming: Naming, lasts: Lasts, links: Links, left: Left
) -> list[Corrupt]:
    """As `_check_tail`, but events that cannot be read are only noted if the log was closed at this position.

    Then its index holds every head, and no number can be given out again.
    """
    try:
        return _check_tail(connection, naming, lasts, links)
    except (Damaged, sqlite3.DatabaseError) as error:
        closed_here = not left.pid and left.position == select_end(connection)[0]
        damage = translated(error) if isinstance(error, sqlite3.Error) else error
        if not closed_here or not isinstance(damage, Damaged) or damage.reason == NOT_INDEXED:
            raise
        return [Corrupt("one of the newest events", damage.reason, position=damage.position)]
