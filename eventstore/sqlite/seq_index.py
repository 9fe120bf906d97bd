"""The positions of events by (stream, seq), without writing a page for each stream of a commit.

An index that every commit updates writes a page for nearly every stream that the commit touches: 8 KB an
event once each stream has its own page. So the table `seq_index` runs behind. The positions of the newest
events are in memory (`unindexed`). When there are many, they move into the table in the table's order, a
slice with each commit. So a page is written once for many events, and no commit waits until all have moved.

The table holds every event up to the position `meta.indexed`, and perhaps some after it. An opening log
finds the rest by reading the events after that position. Each row also has the running checksum of the
stream (`huahuo.eventstore.core.sums`).
"""

import sqlite3
from functools import lru_cache

import structlog

from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.sqlite.meta import get_meta, put_meta
from huahuo.eventstore.sqlite.naming import Naming
from huahuo.eventstore.sqlite.summing import walk
from huahuo.eventstore.sqlite.unindexed import Row, Slice, Unindexed

_ROWS_A_STATEMENT = 256
_CHUNK_EVENTS = 200_000
"""Rows that are sorted in memory at a time when the whole table is rebuilt."""

_log = structlog.get_logger(__name__)


type Links = dict[int, tuple[int, bytes]]
"""By the number of a stream: the seq of an event, and its link of the hash chain."""


UNPLACED = "nothing proves to which place in which stream the event belongs"


def write(connection: sqlite3.Connection, found: Slice) -> None:
    """Put a slice into the table, inside a transaction. Rows that a killed process wrote before are kept."""
    streams: list[int] = []
    seqs: list[int] = []
    all_positions: list[int] = []
    all_crcs: list[int] = []
    for stream, first, positions, crcs in found.pieces:
        count = len(positions)
        streams += [stream] * count
        seqs += range(first, first + count)
        all_positions += positions
        all_crcs += crcs
    # Column by column takes a third of the time of a loop over the rows. Unequal lengths raise.
    values = [0] * (4 * len(seqs))
    values[0::4], values[1::4], values[2::4], values[3::4] = streams, seqs, all_positions, all_crcs
    _insert_all(connection, values)
    if found.mark is not None:
        put_mark(connection, found.mark)


def _insert_all(connection: sqlite3.Connection, values: list[int]) -> None:
    width = 4 * _ROWS_A_STATEMENT
    for start in range(0, len(values), width):
        part = values[start : start + width]
        connection.execute(_insert(len(part) // 4), part)


@lru_cache(maxsize=_ROWS_A_STATEMENT)
def _insert(rows: int) -> str:
    return "INSERT OR IGNORE INTO seq_index VALUES " + ", ".join(["(?, ?, ?, ?)"] * rows)  # noqa: S608


def put_mark(connection: sqlite3.Connection, position: int) -> None:
    """Note that the table holds all events up to `position`."""
    put_meta(connection, "indexed", str(position).encode())


def catch_up(connection: sqlite3.Connection, naming: Naming, *, whole: bool = False) -> Links:
    """Add the missing rows to the table, inside a transaction. Each event is checked on the way.

    Returns the link of the newest event of each stream that is what was written. A damaged event gets a
    checksum that does not fit, so that no reader is served it. A tombstone gives no link: nothing proves its
    own. `whole`: there must be one at each position.

    Raises:
        Damaged: there is none at a position, or one whose place in its stream cannot be its own, or is proven
            by nothing: the last of a stream that does not fit the chain may be another stream's.
    """
    mark, end = _mark(connection), _end(connection)
    last = mark
    unproven: dict[int, int] = {}
    rows: list[Row] = []
    links: Links = {}
    for one in walk(connection, mark, naming):
        if whole and one.position != last + 1:
            raise Damaged(last + 1, f"missing, the next event stands at {one.position}")
        if one.is_misplaced:
            raise Damaged(one.position, UNPLACED)
        last = one.position
        if one.fits and not one.is_pruned:
            links[one.stream] = (one.seq, one.link)
            unproven.pop(one.stream, None)
        else:
            links.pop(one.stream, None)
            if not one.is_pruned:
                unproven[one.stream] = one.position
        if one.is_pruned:
            connection.execute("UPDATE pruned SET crc = ? WHERE position = ?", (one.crc, one.position))
        else:
            rows.append(one[:4])
        if len(rows) >= _CHUNK_EVENTS:
            _insert_all(connection, [value for one in sorted(rows) for value in one])
            rows.clear()
            _log.info("index_made", position=one.position, upto=end)
    if unproven:
        raise Damaged(min(unproven.values()), UNPLACED)
    _insert_all(connection, [value for one in sorted(rows) for value in one])
    put_mark(connection, end)
    return links


def look(connection: sqlite3.Connection, into: Unindexed, naming: Naming, *, summed: bool) -> None:
    """Load the events that the table may lack. `summed`: with checksums, which means reading them."""
    mark, end = _mark(connection), _end(connection)
    if summed:
        into.replace((one[:4] for one in walk(connection, mark, naming) if not one.is_pruned), end)
    else:
        sql = "SELECT stream, seq, position FROM event WHERE position > ? ORDER BY position"
        into.replace(connection.execute(sql, (mark,)), end)


def check(connection: sqlite3.Connection) -> None:
    """Check that every event is found by its stream and seq. The hash chain, read by position, cannot tell.

    Raises:
        Damaged: an event is not found, so readers would take it for pruned; or the index names an event that
            does not exist.
    """
    connection.execute("BEGIN")  # all from one moment
    try:
        mark = _mark(connection)
        sums = [
            connection.execute(_SUMMED.format(table), (mark,)).fetchone() for table in ("event", "seq_index")
        ]
        # Compare row by row only the part that is not indexed yet, or everything if the sums differ.
        behind = mark if sums[0] == sums[1] else 0
        lost, found = connection.execute(_COMPARED, (mark, behind)).fetchone()
        more = connection.execute(_NEWER, (behind,)).fetchone()[0] - found
    finally:
        connection.execute("COMMIT")
    if lost is not None:
        raise Damaged(lost, "it is not in the index by stream and seq, or stands there elsewhere")
    if more:
        raise Damaged(0, f"the index by stream and seq names {more} events that do not exist")


_SUMMED = (
    "SELECT count(*),"
    " sum(((position % 65521) * (seq % 65519) + stream * ((position + seq) % 65497)) % 1000003)"
    " FROM {} WHERE position <= ?"
)
"""Detects accidental differences between two tables, at a fifth of the cost of comparing row by row."""
_COMPARED = (
    "SELECT min(CASE WHEN found.position IS NOT event.position"
    " AND (found.position IS NOT NULL OR event.position <= ?) THEN event.position END), count(found.position)"
    " FROM event LEFT JOIN seq_index AS found ON found.stream = event.stream AND found.seq = event.seq"
    " WHERE event.position > ?"
)
_NEWER = "SELECT count(*) FROM seq_index WHERE position > ?"


def _mark(connection: sqlite3.Connection) -> int:
    """The position up to which the table is complete. Without a mark it is complete to the end."""
    mark = get_meta(connection, "indexed")
    return _end(connection) if mark is None else int(mark)


def _end(connection: sqlite3.Connection) -> int:
    end: int = connection.execute("SELECT coalesce(max(position), 0) FROM event").fetchone()[0]
    return end
