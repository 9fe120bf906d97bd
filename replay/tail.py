"""A bounded memory of the newest events, so that live delivery does not read the store.

`replay.feed` fills it from the log's signals and answers from it. It holds one contiguous piece of
the log; each stream's part of it is therefore contiguous too. It knows no loop and no store.
"""

from collections.abc import Sequence

from eventstore.model import LOG_STREAM, StoredEvent

_EVICTED = StoredEvent(0, "", 0, "", b"", 0, 0, "", "", "", 0, "", b"")
_TRIM_MIN = 64
"""A segment's dead front is cut off when it is this long and longer than what is alive."""


class _Segment:
    """The recent events of one stream: `first`, `first + 1`, … without a hole.

    A list with a moving start, not a deque: a reader begins anywhere in it, and a deque finds its
    middle only by walking.
    """

    __slots__ = ("_events", "_start", "first")

    def __init__(self, first: int) -> None:
        self._events: list[StoredEvent] = []
        self._start = 0
        self.first = first

    @property
    def next(self) -> int:
        return self.first + len(self._events) - self._start

    def push(self, event: StoredEvent) -> None:
        self._events.append(event)

    def pop(self) -> StoredEvent:
        event = self._events[self._start]
        self._events[self._start] = _EVICTED
        self._start += 1
        self.first += 1
        if self._start >= _TRIM_MIN and self._start * 2 > len(self._events):
            del self._events[: self._start]
            self._start = 0
        return event

    def after(self, after: int, events_max: int) -> list[StoredEvent]:
        begin = self._start + after + 1 - self.first
        return self._events[begin : begin + events_max]


class Tail:
    """The newest events of the log, at most `events_max` and `bytes_max` bytes of bodies.

    Invariant: what it holds of the log, and of every stream, is contiguous. The oldest position
    goes first. A stream without recent events costs nothing.
    """

    def __init__(self, *, events_max: int, bytes_max: int, position: int = 0) -> None:
        """An empty memory that begins behind `position`."""
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._log = _Segment(position + 1)
        self._streams: dict[str, _Segment] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return self._log.next - self._log.first

    @property
    def body_bytes(self) -> int:
        """The bytes of the bodies that are held."""
        return self._bytes

    @property
    def streams(self) -> int:
        """How many streams have recent events."""
        return len(self._streams)

    def extend(self, events: Sequence[StoredEvent]) -> bool:
        """Take newly durable events in position order; what is known already is passed over.

        Returns:
            False if events are missing before these: a signal was lost. Then all that was held is
            forgotten, since a reader must never be led over a hole.
        """
        whole = True
        for event in events:
            if event.position < self._log.next:
                continue
            if event.position > self._log.next:
                whole = False
                self._restart(event.position)
            self._push(event)
        while len(self) > self._events_max or self._bytes > self._bytes_max:
            self._evict()
        return whole

    def events(
        self, stream: str, after: int, *, events_max: int, bytes_max: int
    ) -> tuple[StoredEvent, ...] | None:
        """The events right behind `after`, at least one, within the limits; None if not held."""
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

    def _restart(self, position: int) -> None:
        self._log = _Segment(position)
        self._streams.clear()
        self._bytes = 0

    def _push(self, event: StoredEvent) -> None:
        segment = self._streams.get(event.stream)
        if segment is None or segment.next != event.seq:
            # A seq that does not follow cannot come from a sound log; its old part is left behind.
            segment = self._streams[event.stream] = _Segment(event.seq)
        segment.push(event)
        self._log.push(event)
        self._bytes += len(event.body)

    def _evict(self) -> None:
        event = self._log.pop()
        self._bytes -= len(event.body)
        segment = self._streams.get(event.stream)
        if segment is not None and segment.first == event.seq:
            segment.pop()
            if segment.first == segment.next:
                del self._streams[event.stream]
