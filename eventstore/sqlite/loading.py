"""What a log must know before it takes its first append: its end, heads, names and counters."""

import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from itertools import compress

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import Head
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.directory_lock import Left
from huahuo.eventstore.sqlite.ended import EndedFilter
from huahuo.eventstore.sqlite.index_proof import Columns, Ends
from huahuo.eventstore.sqlite.meta import get_meta
from huahuo.eventstore.sqlite.names import Names
from huahuo.eventstore.sqlite.naming import Naming
from huahuo.eventstore.sqlite.packed import NOT_HERE, PackedHeads, PackedNames
from huahuo.eventstore.sqlite.page_cache import passing_through
from huahuo.eventstore.sqlite.seq_index import Links
from huahuo.eventstore.sqlite.small_tables import read_counters, sum_of_counters
from huahuo.eventstore.sqlite.unindexed import Unindexed

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
