"""A bounded cache of the newest events, so that a reader that is a little behind does not read the store.

`huahuo.replay.feed` fills it from the log's signals and answers from it. It holds one contiguous piece
of the log, so each stream's part of it is contiguous too. It knows no loop and no store.

Most events are handed out when they are committed and never asked for here. So a commit is kept as it came,
in a chunk, and a chunk is sorted by stream when the first reader asks for a stream in it.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from huahuo.eventstore.model import LOG_STREAM, StoredEvent

_EVICTED = StoredEvent(0, "", 0, "", b"", 0, 0, "", "", "", 0, "", b"")
EVENT_BYTES: Final = 500
"""What an event weighs besides its body: its other fields, and its places here (measured: 420 to 520)."""
_TRIM_MIN = 64
"""A chunk's dropped front is freed when it is at least this long and longer than the rest."""
CHUNK_EVENTS: Final = 2048
"""As many as a group commit holds: a full one is a chunk, smaller ones share one."""
SORTED_AT_ONCE: Final = 8
"""Chunks that one question may have sorted, 2 ms. If an answer would need more, the store gives it."""


class _Chunk:
    """Consecutive events of the log, the first of them at position `first`.

    Lists with a moving start rather than deques: readers begin anywhere in them, and indexing the middle of
    a deque takes linear time.
    """

    __slots__ = ("_start", "_streams", "events", "first", "weight")

    def __init__(self, events: list[StoredEvent]) -> None:
        self.events = events
        self.first = events[0].position
        self.weight = _weight(events)
        self._start = 0
        self._streams: dict[str, list[StoredEvent]] | None = None

    def __len__(self) -> int:
        return len(self.events) - self._start

    @property
    def is_sorted(self) -> bool:
        return self._streams is not None

    def extend(self, events: Sequence[StoredEvent]) -> None:
        self.events += events
        self.weight += _weight(events)
        if self._streams is not None:
            _sort(self._streams, events)

    def drop(self, count: int) -> int:
        """Remove the `count` oldest events, not all of them. Returns what they weighed."""
        start, end = self._start, self._start + count
        gone = self.events[start:end]
        weight = _weight(gone)
        self.weight -= weight
        self.first += count
        if self._streams is not None:
            _unsort(self._streams, gone)
        if end >= _TRIM_MIN and end * 2 > len(self.events):
            del self.events[:end]
            self._start = 0
        else:
            self.events[start:end] = [_EVICTED] * count
            self._start = end
        return weight

    def oldest(self, bytes_least: int) -> int:
        """How many of the oldest events weigh at least this much, or all."""
        left = bytes_least
        for count in range(len(self)):
            if left <= 0:
                return count
            left -= len(self.events[self._start + count].body) + EVENT_BYTES
        return len(self)

    def after(self, position: int, events_max: int) -> list[StoredEvent]:
        """Events after `position`, which is not before its first one's."""
        begin = self._start + position + 1 - self.first
        return self.events[begin : begin + events_max]

    def of(self, stream: str) -> Sequence[StoredEvent]:
        """The events of one stream."""
        if self._streams is None:
            self._streams = _by_stream(self.events[self._start :])
        return self._streams.get(stream, ())


class Tail:
    """The newest events of the log, at most `events_max`, and `bytes_max` with `EVENT_BYTES` for each.

    Invariant: its part of the log is contiguous, and what it answers of a stream is too. The oldest position
    is dropped first.
    """

    def __init__(self, *, events_max: int, bytes_max: int, position: int = 0) -> None:
        """An empty cache that begins after `position`."""
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._chunks: deque[_Chunk] = deque()
        self._first = self._next = position + 1
        self._bytes = 0

    def __len__(self) -> int:
        return self._next - self._first

    @property
    def weight(self) -> int:
        """The bytes of the bodies, and `EVENT_BYTES` for each event."""
        return self._bytes

    @property
    def slots(self) -> int:
        """How many places for events are in memory: those of evicted events stay for a while."""
        return sum(len(chunk.events) for chunk in self._chunks)

    @property
    def sorted_chunks(self) -> int:
        """How many chunks are sorted by stream."""
        return sum(chunk.is_sorted for chunk in self._chunks)

    def extend(self, events: Sequence[StoredEvent]) -> dict[str, list[StoredEvent]] | None:
        """Add newly durable events (at least one) in position order. Known ones are skipped.

        Returns:
            `events` by stream, or None if events before these are missing because a signal was lost. Then
            the cache is cleared first, because a reader must not skip a gap.
        """
        first = events[0].position
        if first == self._next and events[-1].position - first == len(events) - 1:
            self._add(events)
            return {events[0].stream: [events[0]]} if len(events) == 1 else _by_stream(events)
        whole = True
        new: list[StoredEvent] = []
        following = self._next
        for event in events:
            if event.position < following:
                continue
            if event.position > following:
                whole = False
                self._restart(event.position)
                new.clear()
            new.append(event)
            following = event.position + 1
        self._add(new)
        return _by_stream(events) if whole else None

    def events(
        self, stream: str, after: int, *, events_max: int, bytes_max: int
    ) -> tuple[StoredEvent, ...] | None:
        """The events right after `after`, at least one, within the limits. None if they are not cached."""
        if stream == LOG_STREAM:
            found = self._of_log(after, events_max)
        else:
            found = self._of_stream(stream, after, events_max)
        size = 0
        for count, event in enumerate(found):
            size += len(event.body)
            if size > bytes_max and count:
                return tuple(found[:count])
        return tuple(found) or None

    def lighten(self, bytes_max: int) -> None:
        """Let go of the oldest events until the rest weighs at most this much."""
        over, count = self._bytes - bytes_max, 0
        for chunk in self._chunks if over > 0 else ():
            if chunk.weight > over:
                count += chunk.oldest(over)
                break
            over -= chunk.weight
            count += len(chunk)
        self._evict(count)

    def _of_log(self, after: int, events_max: int) -> list[StoredEvent]:
        found: list[StoredEvent] = []
        if self._first <= after + 1 < self._next:
            for chunk in self._chunks:
                if chunk.first + len(chunk) > after + 1:
                    found += chunk.after(max(after, chunk.first - 1), events_max - len(found))
                    if len(found) == events_max:
                        break
        return found

    def _of_stream(self, stream: str, after: int, events_max: int) -> list[StoredEvent]:
        """A sound log has no gap in a stream's seqs. If there is one, only the part after it is found."""
        parts: list[Sequence[StoredEvent]] = []
        following = to_sort = 0
        for chunk in reversed(self._chunks):
            to_sort += not chunk.is_sorted
            if to_sort > SORTED_AT_ONCE:
                return []
            part = chunk.of(stream)
            if not part:
                continue
            last = part[-1].seq
            if (following and last + 1 != following) or last <= after:
                break
            sound = last - part[0].seq == len(part) - 1
            part = part if sound else _whole_end(part)
            parts.append(part)
            following = part[0].seq
            if following <= after + 1 or not sound:
                break
        if not parts or following > after + 1:
            return []
        found: list[StoredEvent] = []
        skipped = after + 1 - following
        for part in reversed(parts):
            found += part[skipped : skipped + events_max - len(found)]
            skipped = 0
            if len(found) == events_max:
                break
        return found

    def _restart(self, position: int) -> None:
        self._chunks.clear()
        self._first = self._next = position
        self._bytes = 0

    def _add(self, events: Sequence[StoredEvent]) -> None:
        chunks = self._chunks
        for start in range(0, len(events), CHUNK_EVENTS):
            some = events[start : start + CHUNK_EVENTS]
            before = chunks[-1].weight if chunks else 0
            if chunks and len(chunks[-1]) + len(some) <= CHUNK_EVENTS:
                chunks[-1].extend(some)
                self._bytes += chunks[-1].weight - before
            else:
                chunks.append(_Chunk(list(some)))
                self._bytes += chunks[-1].weight
        self._next += len(events)
        # Compared here, because each commit comes by, and few commits are too many.
        if (over := self._next - self._first - self._events_max) > 0:
            self._evict(over)
        if self._bytes > self._bytes_max:
            self.lighten(self._bytes_max)

    def _evict(self, count: int) -> None:
        chunks = self._chunks
        while count > 0:
            size = len(chunks[0])
            if size > count:
                self._first += count
                self._bytes -= chunks[0].drop(count)
                return
            self._first += size
            self._bytes -= chunks.popleft().weight
            count -= size


def _by_stream(events: Iterable[StoredEvent]) -> dict[str, list[StoredEvent]]:
    grouped: dict[str, list[StoredEvent]] = {}
    _sort(grouped, events)
    return grouped


def _sort(grouped: dict[str, list[StoredEvent]], events: Iterable[StoredEvent]) -> None:
    for event in events:
        stream = event.stream
        if stream in grouped:
            grouped[stream].append(event)
        else:
            grouped[stream] = [event]


def _unsort(grouped: dict[str, list[StoredEvent]], oldest: Iterable[StoredEvent]) -> None:
    for event in oldest:
        part = grouped[event.stream]
        if len(part) == 1:
            del grouped[event.stream]
        else:
            del part[0]


def _weight(events: Sequence[StoredEvent]) -> int:
    return sum(map(len, [event.body for event in events])) + EVENT_BYTES * len(events)


def _whole_end(events: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
    """The longest end of `events` without a gap."""
    start = len(events) - 1
    while start and events[start - 1].seq + 1 == events[start].seq:
        start -= 1
    return events[start:]
