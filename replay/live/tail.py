"""A bounded cache of the newest events, so that a reader that is a little behind does not read the store.

`huahuo.replay.live.feed` fills it from the log's signals and answers from it. It holds one contiguous piece
of the log, so each stream's part of it is contiguous too. It knows no loop and no store.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from huahuo.eventstore.model import LOG_STREAM, StoredEvent

_EVICTED = StoredEvent(0, "", 0, "", b"", 0, 0, "", "", "", 0, "", b"")
EVENT_BYTES: Final = 500
"""What an event weighs besides its body: its other fields, and its places here (measured: 420 to 520)."""
_TRIM_MIN = 64
"""A segment's dropped front is freed when it is at least this long and longer than the rest."""


class _Segment:
    """The recent events of one stream: `first`, `first + 1`, … without a gap.

    A list with a moving start rather than a deque: readers begin anywhere in it, and indexing the middle of
    a deque takes linear time.
    """

    __slots__ = ("_events", "_start", "first")

    def __init__(self, first: int, events: list[StoredEvent]) -> None:
        self._events = events
        self._start = 0
        self.first = first

    @property
    def slots(self) -> int:
        """How many events it keeps or has kept and not let go of yet."""
        return len(self._events)

    @property
    def next(self) -> int:
        return self.first + len(self._events) - self._start

    def extend(self, events: Sequence[StoredEvent]) -> None:
        self._events += events

    def follow(self, seq: int, events: Sequence[StoredEvent]) -> bool:
        """Take `events`, the first of which has this number. False: it is not the next one."""
        own = self._events
        if seq != self.first + len(own) - self._start:
            return False
        own += events
        return True

    def drop(self, count: int) -> list[StoredEvent]:
        """Remove the `count` oldest events and return them."""
        start, end = self._start, self._start + count
        gone = self._events[start:end]
        self.first += count
        if end >= _TRIM_MIN and end * 2 > len(self._events):
            del self._events[:end]
            self._start = 0
        else:
            self._events[start:end] = [_EVICTED] * count
            self._start = end
        return gone

    def oldest(self, bytes_least: int) -> int:
        """How many of the oldest events weigh at least this much, or all."""
        left = bytes_least
        for place in range(self._start, len(self._events)):
            if left <= 0:
                return place - self._start
            left -= len(self._events[place].body) + EVENT_BYTES
        return len(self._events) - self._start

    def after(self, after: int, events_max: int) -> list[StoredEvent]:
        begin = self._start + after + 1 - self.first
        return self._events[begin : begin + events_max]


class Tail:
    """The newest events of the log, at most `events_max`, and `bytes_max` with `EVENT_BYTES` for each.

    Invariant: its part of the log, and of every stream, is contiguous. The oldest position is dropped
    first. A stream without recent events costs nothing.
    """

    def __init__(self, *, events_max: int, bytes_max: int, position: int = 0) -> None:
        """An empty cache that begins after `position`."""
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._log = _Segment(position + 1, [])
        self._streams: dict[str, _Segment] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return self._log.next - self._log.first

    @property
    def weight(self) -> int:
        """The bytes of the bodies, and `EVENT_BYTES` for each event."""
        return self._bytes

    @property
    def slots(self) -> int:
        """How many places for events are in memory: those of evicted events stay for a while."""
        return self._log.slots + sum(segment.slots for segment in self._streams.values())

    @property
    def streams(self) -> int:
        """Number of streams with recent events."""
        return len(self._streams)

    def extend(self, events: Sequence[StoredEvent]) -> dict[str, list[StoredEvent]] | None:
        """Add newly durable events (at least one) in position order. Known ones are skipped.

        Returns:
            `events` by stream, or None if events before these are missing because a signal was lost. Then
            the cache is cleared first, because a reader must not skip a gap.
        """
        grouped = _by_stream(events)
        first = events[0].position
        if first == self._log.next and events[-1].position - first == len(events) - 1:
            self._add(events, grouped)
            return grouped
        whole = True
        new: list[StoredEvent] = []
        following = self._log.next
        for event in events:
            if event.position < following:
                continue
            if event.position > following:
                whole = False
                self._restart(event.position)
                new.clear()
            new.append(event)
            following = event.position + 1
        self._add(new, _by_stream(new))
        return grouped if whole else None

    def events(
        self, stream: str, after: int, *, events_max: int, bytes_max: int
    ) -> tuple[StoredEvent, ...] | None:
        """The events right after `after`, at least one, within the limits. None if they are not cached."""
        segment = self._log if stream == LOG_STREAM else self._streams.get(stream)
        if segment is None or not segment.first <= after + 1 < segment.next:
            return None
        found = segment.after(after, events_max)
        size = 0
        for count, event in enumerate(found):
            size += len(event.body)
            if size > bytes_max and count:
                return tuple(found[:count])
        return tuple(found)

    def lighten(self, bytes_max: int) -> None:
        """Let go of the oldest events until the rest weighs at most this much."""
        if self._bytes > bytes_max:
            self._evict(self._log.oldest(self._bytes - bytes_max))

    def _restart(self, position: int) -> None:
        self._log = _Segment(position, [])
        self._streams.clear()
        self._bytes = 0

    def _add(self, events: Sequence[StoredEvent], grouped: Mapping[str, list[StoredEvent]]) -> None:
        self._log.extend(events)
        self._bytes += _weight(events)
        streams = self._streams
        for stream, part in grouped.items():
            first = part[0].seq
            sound = part[-1].seq - first == len(part) - 1
            if not sound or stream not in streams or not streams[stream].follow(first, part):
                # A sound log has no gap in a stream's seqs. If there is one, only the part after it is kept.
                whole = part[:] if sound else _whole_end(part)
                streams[stream] = _Segment(whole[0].seq, whole)
        self._evict(len(self) - self._events_max)
        self.lighten(self._bytes_max)

    def _evict(self, count: int) -> None:
        if count <= 0:
            return
        gone = self._log.drop(count)
        self._bytes -= _weight(gone)
        for stream, seq in {event.stream: event.seq for event in gone}.items():
            segment = self._streams.get(stream)
            if segment is None or seq < segment.first:
                continue
            if seq + 1 >= segment.next:
                del self._streams[stream]
            else:
                segment.drop(seq + 1 - segment.first)


def _by_stream(events: Iterable[StoredEvent]) -> dict[str, list[StoredEvent]]:
    grouped: dict[str, list[StoredEvent]] = {}
    for event in events:
        stream = event.stream
        if stream in grouped:
            grouped[stream].append(event)
        else:
            grouped[stream] = [event]
    return grouped


def _weight(events: Sequence[StoredEvent]) -> int:
    return sum(map(len, [event.body for event in events])) + EVENT_BYTES * len(events)


def _whole_end(events: list[StoredEvent]) -> list[StoredEvent]:
    """The longest end of `events` without a gap."""
    start = len(events) - 1
    while start and events[start - 1].seq + 1 == events[start].seq:
        start -= 1
    return events[start:]
