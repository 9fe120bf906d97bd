"""Where the events of a stream stand, by (stream, seq), without a page written for each stream of a commit.

An index that every commit keeps up to date writes a page for nearly every stream that the commit touches:
8 KB an event once each stream has a page of its own. So the table `seq_index` runs behind. Where the newest
events stand is kept in memory; when there are many, they move into the table in its own order, a
slice with each commit, so that a page is written once for many events and no commit waits for all of them.

The table holds every event up to the position `meta.indexed`, and perhaps some behind it. Whoever opens
the log finds the rest by reading the events behind that position. Beside each place stands the running
checksum of the stream (`huahuo.eventstore.core.sums`).
"""

import sqlite3
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import structlog

from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.sqlite.meta import get_meta, put_meta
from huahuo.eventstore.sqlite.summing import walk

UNINDEXED_MAX = 32_768
"""From so many events on they move into the table; up to twice as many may then be in memory."""

SLICE_MIN = 256
"""Rows that move at a time, at least: fewer would write the same page again soon."""
_MOVED_AN_EVENT = 2
"""So many rows move for each new event, so that a round ends although events go on."""
_ROWS_A_STATEMENT = 256
_CHUNK_EVENTS = 200_000
"""Rows that are sorted in memory at a time when the whole table is made."""

_log = structlog.get_logger(__name__)


type Row = tuple[int, int, int, int]
"""Stream, seq, position, and the running checksum of the stream."""


class Piece(NamedTuple):
    """Events of one stream without a hole: the first one's seq, where each stands, and its checksum."""

    stream: int
    first: int
    positions: Sequence[int]
    crcs: Sequence[int]


class Held(NamedTuple):
    """What `Unindexed.split` knows: the table must be asked up to `upto`, then come `positions`.

    `crcs` are the checksums at `positions`, none where they are not known; `before` is the one before the
    first of them, None if the table has it.
    """

    upto: int
    positions: Sequence[int] = ()
    crcs: Sequence[int] = ()
    before: int | None = None


class Slice(NamedTuple):
    """What is to be written to the table with one commit; `mark`: the table then holds all up to there."""

    pieces: list[Piece]
    mark: int | None


_NOTHING = Slice([], None)


class _Run(NamedTuple):
    """As `Piece`. Checksums are added first: who sees a position sees its checksum."""

    first: int
    positions: list[int]
    crcs: array[int]


type _Runs = dict[int, _Run]


class Unindexed:
    """The newest events, by the numbers of their streams. Pure.

    One thread changes it, others may ask `split` meanwhile. They must do so before they ask the table: what
    leaves the memory is in the table already.
    """

    def __init__(self, events_max: int) -> None:
        """Empty; from `events_max` events on `due` has something."""
        self._events_max = events_max
        self._runs: _Runs = {}
        self._end = 0
        self._todo: list[int] = []
        """Streams whose events move in this round, the last one first."""
        self._round_end = 0
        self._debt = 0
        self.count = 0

    def replace(self, rows: Iterable[Row | tuple[int, int, int]], end: int) -> None:
        """Hold exactly these, in the order of their positions, summed or not; `end` is the log's."""
        runs: _Runs = {}
        self.count = _enter(runs, rows)
        self._runs, self._end, self._todo, self._debt = runs, end, [], 0

    def add(self, rows: Sequence[Row]) -> None:
        """Events that were committed, in the order of their positions."""
        runs = self._runs
        for stream, seq, position, crc in rows:
            run = runs.get(stream)
            if run is None:
                runs[stream] = _Run(seq, [position], array("I", (crc,)))
            else:
                run[2].append(crc)
                run[1].append(position)
        self.count += len(rows)
        if rows:
            self._end = rows[-1][2]

    def last(self, stream: int) -> int:
        """The newest seq of `stream` that is held, 0 if none is."""
        run = self._runs.get(stream)
        return 0 if run is None else run.first + len(run.positions) - 1

    def position(self, stream: int, seq: int) -> int:
        """Where an event stands; 0 if it is not held."""
        run = self._runs.get(stream)
        if run is None or not 0 <= seq - run.first < len(run.positions):
            return 0
        return run.positions[seq - run.first]

    def split(self, stream: int, after: int, upto: int, limit: int) -> Held:
        """Where the events with `after` < seq <= `upto` stand.

        The positions are the first `limit` that follow what the table has: none where the table has
        `limit` already, if nothing was pruned.
        """
        run = self._runs.get(stream)
        if run is None or run.first > upto:
            return Held(upto)
        first, positions, crcs = run
        if first - 1 - after >= limit:
            return Held(first - 1)
        begin = max(after + 1 - first, 0)
        end = min(upto + 1 - first, begin + limit)
        return Held(
            first - 1, positions[begin:end], crcs[begin:end], crcs[begin - 1] if begin and crcs else None
        )

    def due(self, events: int) -> Slice:
        """What moves with a commit of `events` events. `moved` must follow once it is durable."""
        if not self._todo:
            if self.count < self._events_max:
                return _NOTHING
            self._todo = sorted(self._runs, reverse=True)
            self._round_end, self._debt = self._end, 0
        self._debt += _MOVED_AN_EVENT * events
        if self._debt < SLICE_MIN:
            return _NOTHING
        pieces: list[Piece] = []
        room, left = self._debt, len(self._todo)
        while room > 0 and left:
            stream = self._todo[left - 1]
            first, positions, crcs = self._runs[stream]
            pieces.append(Piece(stream, first, positions[:room], crcs[:room]))
            if room >= len(positions):
                left -= 1
            room -= len(positions)
        return Slice(pieces, None if left else self._round_end)

    def all(self) -> Slice:
        """Everything that is held."""
        return Slice([Piece(stream, *run) for stream, run in sorted(self._runs.items())], self._end)

    def moved(self, written: Slice) -> None:
        """`written`, the last one handed out, is in the table; nothing was added in between."""
        for stream, first, part, _ in written.pieces:
            _, positions, crcs = self._runs[stream]
            count = len(part)
            if count == len(positions):
                del self._runs[stream]
                if self._todo and self._todo[-1] == stream:
                    self._todo.pop()
            else:
                self._runs[stream] = _Run(first + count, positions[count:], crcs[count:])
            self.count -= count
        if written.pieces:
            self._debt = 0
        if written.mark is not None:
            self._todo = []


def _enter(runs: _Runs, rows: Iterable[Row | tuple[int, int, int]]) -> int:
    """Put new events into `runs`; returns how many they were."""
    count = 0
    for stream, seq, position, *crc in rows:
        run = runs.get(stream)
        if run is None:
            run = runs[stream] = _Run(seq, [], array("I"))
        run.crcs.extend(crc)
        run.positions.append(position)
        count += 1
    return count


def write(connection: sqlite3.Connection, found: Slice) -> None:
    """Put a slice into the table, inside a transaction. What a killed process wrote already stays."""
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
    # Column by column: a third of what a loop over the rows takes. Columns of unlike length raise.
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


def catch_up(connection: sqlite3.Connection) -> None:
    """Write to the table what it lacks, inside a transaction; each event is checked on its way.

    An event that is not what was written gets a checksum that does not fit, so that nobody is served it.
    """
    mark, end = _mark(connection), _end(connection)
    rows: list[Row] = []
    for one in walk(connection, mark):
        if one.is_pruned:
            connection.execute("UPDATE pruned SET crc = ? WHERE position = ?", (one.crc, one.position))
        else:
            rows.append(one[:4])
        if len(rows) >= _CHUNK_EVENTS:
            _insert_all(connection, [value for one in sorted(rows) for value in one])
            rows.clear()
            _log.info("index_made", position=one.position, upto=end)
    _insert_all(connection, [value for one in sorted(rows) for value in one])
    put_mark(connection, end)


def look(connection: sqlite3.Connection, into: Unindexed, *, summed: bool) -> None:
    """Find the events that the table may lack; `summed`: with their checksums, which takes reading them."""
    mark, end = _mark(connection), _end(connection)
    if summed:
        into.replace((one[:4] for one in walk(connection, mark) if not one.is_pruned), end)
    else:
        sql = "SELECT stream, seq, position FROM event WHERE position > ? ORDER BY position"
        into.replace(connection.execute(sql, (mark,)), end)


def check(connection: sqlite3.Connection) -> None:
    """Whether every event is found by its stream and seq: the hash chain, walked by position, cannot tell.

    Raises:
        Damaged: one is not, so its readers would take it for pruned; or the index names what is not there.
    """
    connection.execute("BEGIN")  # all from one moment
    try:
        mark = _mark(connection)
        sums = [
            connection.execute(_SUMMED.format(table), (mark,)).fetchone() for table in ("event", "seq_index")
        ]
        # Row by row only where the index is not complete yet, or where something is wrong.
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
"""Tells two tables apart that differ by an accident, a fifth as dear as comparing them row by row."""
_COMPARED = (
    "SELECT min(CASE WHEN found.position IS NOT event.position"
    " AND (found.position IS NOT NULL OR event.position <= ?) THEN event.position END), count(found.position)"
    " FROM event LEFT JOIN seq_index AS found ON found.stream = event.stream AND found.seq = event.seq"
    " WHERE event.position > ?"
)
_NEWER = "SELECT count(*) FROM seq_index WHERE position > ?"


def _mark(connection: sqlite3.Connection) -> int:
    """Up to where the table is complete. A log without a mark has an index that is."""
    mark = get_meta(connection, "indexed")
    return _end(connection) if mark is None else int(mark)


def _end(connection: sqlite3.Connection) -> int:
    end: int = connection.execute("SELECT coalesce(max(position), 0) FROM event").fetchone()[0]
    return end
