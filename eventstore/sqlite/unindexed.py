"""The positions of the newest events, which `seq_index` lacks, and which of them move there next. Pure."""

from array import array
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from huahuo.eventstore.errors import Damaged

UNINDEXED_MAX = 32_768
"""At this many events in memory, they begin to move into the table. Memory holds at most twice as many."""

SLICE_MIN = 256
"""The least rows that move at a time. Smaller slices would write the same page again soon."""
_MOVED_AN_EVENT = 2
"""Rows that move for each new event. More than one, so that a round ends while events keep coming."""

type Row = tuple[int, int, int, int]
"""Stream, seq, position, and the running checksum of the stream."""


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


NOTHING: Final = Slice([], None)
"""No row moves."""


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

    def __init__(self, events_max: int | None = None) -> None:
        """Start empty. At `events_max` events (None: `UNINDEXED_MAX`), `due` begins to return slices."""
        self._events_max = UNINDEXED_MAX if events_max is None else events_max
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

        `wanted`: the least number of entries that move, even if there is room in memory.
        """
        if not self._todo:
            if self.count < self._events_max and not wanted:
                return NOTHING
            self._todo = sorted(self._runs, reverse=True)
            self._round_end, self._debt = self._end, 0
        self._debt += _MOVED_AN_EVENT * events + wanted
        if self._debt < SLICE_MIN:
            return NOTHING
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
