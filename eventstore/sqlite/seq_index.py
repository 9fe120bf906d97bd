"""The positions of events by (stream, seq), without writing a page for each stream of a commit.

An index that every commit updates writes a page for nearly every stream that the commit touches: 8 KB an
event once each stream has its own page. So the table `seq_index` runs behind. The positions of the newest
events are in memory. When there are many, they move into the table in the table's order, a slice with each
commit. So a page is written once for many events, and no commit waits until all have moved.

The table holds every event up to the position `meta.indexed`, and perhaps some after it. An opening log
finds the rest by reading the events after that position. Each row also has the running checksum of the
stream (`huahuo.eventstore.core.sums`).
"""

import sqlite3
from array import array
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import structlog

from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.sqlite.meta import get_meta, put_meta
from huahuo.eventstore.sqlite.naming import Naming
from huahuo.eventstore.sqlite.summing import walk

UNINDEXED_MAX = 32_768
"""At this many events in memory, they begin to move into the table. Memory holds at most twice as many."""

SLICE_MIN = 256
"""The least rows that move at a time. Smaller slices would write the same page again soon."""
_MOVED_AN_EVENT = 2
"""Rows that move for each new event. More than one, so that a round ends while events keep coming."""
_ROWS_A_STATEMENT = 256
_CHUNK_EVENTS = 200_000
"""Rows that are sorted in memory at a time when the whole table is rebuilt."""

_log = structlog.get_logger(__name__)


type Row = tuple[int, int, int, int]
"""Stream, seq, position, and the running checksum of the stream."""


type Links = dict[int, tuple[int, bytes]]
"""By the number of a stream: the seq of an event, and its link of the hash chain."""


class CaughtUp(NamedTuple):
    """The links of the newest event of each stream that is what was written.

    `misfit`: the position of the first event that does not fit the chain, 0 if all do. `misplaced`: of the
    first whose place cannot be its own, either. `unfit`: the stream of each event that does not fit.
    """

    links: Links
    misfit: int
    misplaced: int
    unfit: Sequence[int]


class Piece(NamedTuple):
    """Consecutive events of one stream: the seq of the first, and the position and checksum of each."""

    stream: int
    first: int
    positions: Sequence[int]
    crcs: Sequence[int]


class Held(NamedTuple):
    """The answer of `Unindexed.split`: read the table up to `upto`, then continue with `positions`.

    `crcs` are the checksums at `positions`, empty if they are unknown. `before` is the checksum of the event
    before the first of them, None if it is in the table.
    """

    upto: int
    positions: Sequence[int] = ()
    crcs: Sequence[int] = ()
    before: int | None = None


class Slice(NamedTuple):
    """Rows to write to the table with one commit. After that it holds all events up to `mark`, if set."""

    pieces: list[Piece]
    mark: int | None


_NOTHING = Slice([], None)


class _Run(NamedTuple):
    """As `Piece`. Checksums are added first, so that a thread that sees a position also sees its checksum."""

    first: int
    positions: list[int]
    crcs: array[int]


type _Runs = dict[int, _Run]


class Unindexed:
    """The newest events, by the numbers of their streams. Pure.

    One thread changes it while others may call `split`. Readers must call `split` before they read the table:
    an event that has left memory is already in the table.
    """

    def __init__(self, events_max: int) -> None:
        """Start empty. At `events_max` events, `due` begins to return slices."""
        self._events_max = events_max
        self._runs: _Runs = {}
        self._end = 0
        self._todo: list[int] = []
        """Streams whose events still move in this round, in reverse order."""
        self._round_end = 0
        self._debt = 0
        self.count = 0
        self.complete_to = 0
        """The table holds every event up to this position, as far as this process knows."""

    def replace(self, rows: Iterable[Row | tuple[int, int, int]], end: int) -> None:
        """Hold exactly `rows`, ordered by position, with or without checksums. The log ends at `end`."""
        runs: _Runs = {}
        self.count = _enter(runs, rows)
        self._runs, self._end, self._todo, self._debt = runs, end, [], 0
        self.complete_to = min((run.positions[0] for run in runs.values()), default=end + 1) - 1

    def add(self, rows: Sequence[Row]) -> None:
        """Add committed events, ordered by position."""
        runs = self._runs
        for stream, seq, position, crc in rows:
            if stream in runs:
                run = runs[stream]
                run[2].append(crc)
                run[1].append(position)
            else:
                runs[stream] = _Run(seq, [position], array("I", (crc,)))
        self.count += len(rows)
        if rows:
            self._end = rows[-1][2]

    @property
    def streams(self) -> Collection[int]:
        """The numbers of the streams that have events in memory."""
        return self._runs.keys()

    def last(self, stream: int) -> int:
        """The newest seq of `stream` in memory, 0 if there is none."""
        run = self._runs.get(stream)
        return 0 if run is None else run.first + len(run.positions) - 1

    def position(self, stream: int, seq: int) -> int:
        """The position of an event, 0 if it is not in memory."""
        run = self._runs.get(stream)
        if run is None or not 0 <= seq - run.first < len(run.positions):
            return 0
        return run.positions[seq - run.first]

    def split(self, stream: int, after: int, upto: int, limit: int) -> Held:
        """The positions of the events with `after` < seq <= `upto`.

        They are the first `limit` after those in the table. There are none if the table alone has `limit`
        (assuming that nothing was pruned).
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

    def due(self, events: int, wanted: int = 0) -> Slice:
        """The slice that moves with a commit of `events` events. Call `moved` when it is durable.

        `wanted`: so many move at least, although there is room in memory.
        """
        if not self._todo:
            if self.count < self._events_max and not wanted:
                return _NOTHING
            self._todo = sorted(self._runs, reverse=True)
            self._round_end, self._debt = self._end, 0
        self._debt += _MOVED_AN_EVENT * events + wanted
        if self._debt < SLICE_MIN:
            return _NOTHING
        pieces: list[Piece] = []
        room, left = self._debt, len(self._todo)
        while room > 0 and left:
            stream = self._todo[left - 1]
            first, positions, crcs = self._runs[stream]
            count = len(positions)
            if room >= count:  # the whole run, which `moved` forgets: nothing is added to it meanwhile
                pieces.append(Piece(stream, first, positions, crcs))
                left -= 1
            else:
                pieces.append(Piece(stream, first, positions[:room], crcs[:room]))
            room -= count
        return Slice(pieces, None if left else self._round_end)

    def all(self) -> Slice:
        """Everything in memory, as one slice."""
        return Slice([Piece(stream, *run) for stream, run in sorted(self._runs.items())], self._end)

    def moved(self, written: Slice) -> None:
        """Forget `written`, the last slice returned: it is in the table. Nothing was added since."""
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
            self.complete_to = written.mark


def _enter(runs: _Runs, rows: Iterable[Row | tuple[int, int, int]]) -> int:
    """Put new events into `runs`. Returns their count."""
    count = 0
    for stream, seq, position, *crc in rows:
        run = runs.get(stream)
        if run is None:
            run = runs[stream] = _Run(seq, [], array("I"))
        if seq != run.first + len(run.positions):
            raise Damaged(position, f"the event before it in its stream is not event {seq - 1}")
        run.crcs.extend(crc)
        run.positions.append(position)
        count += 1
    return count


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


def catch_up(connection: sqlite3.Connection, naming: Naming, *, whole: bool = False) -> CaughtUp:
    """Add the missing rows to the table, inside a transaction. Each event is checked on the way.

    A damaged event gets a checksum that does not fit, so that no reader is served it; if its place cannot be
    its own, it gets the next one of its stream, unless another event is proven to be there. A tombstone gives
    no link: nothing proves its own. `whole`: there must be one at each position. Raises Damaged if there is
    not.
    """
    mark, end = _mark(connection), _end(connection)
    last = mark
    rows: list[Row] = []
    misplaced: list[Row] = []
    links: Links = {}
    misfit = 0
    unfit: list[int] = []
    for one in walk(connection, mark, naming):
        if whole and one.position != last + 1:
            raise Damaged(last + 1, f"missing, the next event stands at {one.position}")
        last = one.position
        if one.fits and not one.is_pruned:
            links[one.stream] = (one.seq, one.link)
        else:
            links.pop(one.stream, None)
            misfit = misfit or (0 if one.is_pruned else one.position)
            if not one.fits:
                unfit.append(one.stream)
        if one.is_pruned:
            connection.execute("UPDATE pruned SET crc = ? WHERE position = ?", (one.crc, one.position))
        elif one.is_misplaced:
            misplaced.append(one[:4])
        else:
            rows.append(one[:4])
        if len(rows) >= _CHUNK_EVENTS:
            _insert_all(connection, [value for one in sorted(rows) for value in one])
            rows.clear()
            _log.info("index_made", position=one.position, upto=end)
    _insert_all(connection, [value for part in (sorted(rows), misplaced) for one in part for value in one])
    put_mark(connection, end)
    return CaughtUp(links, misfit, misplaced[0][2] if misplaced else 0, unfit)


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
