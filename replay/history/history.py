"""Recorded history for looking back: reading a log, live or copied, and finding places in it.

Every `huahuo.eventstore.port.Log` is a `History`. So is a `ListHistory`, which holds the events of an export
or a fork in memory. Nothing here writes.
"""

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from operator import attrgetter
from typing import Protocol

from huahuo.eventstore.model import LOG_STREAM, Ack, Head, Keyframe, StoredEvent

PAGE_EVENTS_MAX = 4096
PAGE_BYTES_MAX = 4 << 20
_position = attrgetter("position")


class History(Protocol):
    """The reading half of `huahuo.eventstore.port.Log`."""

    @property
    def log_id(self) -> str:
        """See `Log`."""
        ...

    @property
    def position(self) -> int:
        """See `Log`."""
        ...

    def head(self, stream: str) -> Head:
        """See `Log`."""
        ...

    def streams(self, prefix: str) -> list[str]:
        """See `Log`."""
        ...

    async def read(
        self, stream: str, after: int, *, events_max: int, bytes_max: int = 1 << 20
    ) -> list[StoredEvent]:
        """See `Log`."""
        ...

    async def keyframe(
        self, stream: str, fold: str, fingerprint: str, *, at: int | None = None
    ) -> Keyframe | None:
        """See `Log`."""
        ...

    async def acks(self, user: str | None = None) -> list[Ack]:
        """See `Log`."""
        ...


class ListHistory:
    """Events in memory as a history, with ascending positions and, in each stream, ascending seqs."""

    def __init__(self, events: Sequence[StoredEvent], log_id: str) -> None:
        self.log_id = log_id
        self.events = list(events)
        self._positions = [event.position for event in self.events]
        self._streams: dict[str, list[StoredEvent]] = {}
        for event in self.events:
            self._streams.setdefault(event.stream, []).append(event)
        self._seqs = {stream: [e.seq for e in held] for stream, held in self._streams.items()}

    @property
    def position(self) -> int:
        """See `Log`."""
        return self._positions[-1] if self._positions else 0

    def head(self, stream: str) -> Head:
        """See `Log`."""
        places = self._positions if stream == LOG_STREAM else self._seqs.get(stream)
        return Head(places[0], places[-1]) if places else Head()

    def streams(self, prefix: str) -> list[str]:
        """See `Log`."""
        return sorted(name for name in self._streams if name.startswith(prefix))

    async def read(
        self, stream: str, after: int, *, events_max: int, bytes_max: int = 1 << 20
    ) -> list[StoredEvent]:
        """See `Log`."""
        whole = stream == LOG_STREAM
        held = self.events if whole else self._streams.get(stream, [])
        start = bisect_right(self._positions if whole else self._seqs.get(stream, []), after)
        page = held[start : start + events_max]
        size = 0
        for count, event in enumerate(page):
            size += len(event.body)
            if count and size > bytes_max:
                return page[:count]
        return page

    async def keyframe(
        self, stream: str, fold: str, fingerprint: str, *, at: int | None = None
    ) -> Keyframe | None:
        """See `Log`. There are no keyframes."""
        del stream, fold, fingerprint, at
        return None

    async def acks(self, user: str | None = None) -> list[Ack]:
        """See `Log`. There are no acks."""
        del user
        return []


async def event_at(history: History, position: int) -> StoredEvent | None:
    """The event at a position of the log."""
    return await event_of(history, LOG_STREAM, position)


async def event_of(history: History, stream: str, seq: int) -> StoredEvent | None:
    """Event `seq` of a stream, None if it does not exist or was compacted away."""
    page = await history.read(stream, seq - 1, events_max=1)
    return page[0] if page and place(page[0], stream) == seq else None


def place(event: StoredEvent, stream: str) -> int:
    """The number of `event` in `stream`, which is its own stream or `log`."""
    return event.position if stream == LOG_STREAM else event.seq


async def seq_at(history: History, stream: str, position: int) -> int:
    """The head of `stream` when the log was at `position`. By bisection, because positions rise with seqs."""
    head = history.head(stream)
    if stream == LOG_STREAM:
        return min(position, head.seq)
    if position >= history.position:
        return head.seq
    return await _last(history, stream, lambda event: event.position <= position)


async def position_of(history: History, stream: str, seq: int) -> int:
    """The position of the newest event of `stream` with a seq <= `seq`, 0 if there is none."""
    if stream == LOG_STREAM:
        return min(seq, history.position)
    page = await history.read(stream, min(seq, history.head(stream).seq) - 1, events_max=1)
    return page[0].position if page and page[0].seq <= seq else 0


async def position_at_time(history: History, ms: int) -> int:
    """The last position whose event was written up to `ms`, 0 if none.

    Found by bisection: if the clock was set back, several positions fit and this is one of them.
    """
    low = await _last(history, LOG_STREAM, lambda event: event.ts_ms <= ms)
    return low if await history.read(LOG_STREAM, low - 1, events_max=1) else 0


async def _last(history: History, stream: str, fits: Callable[[StoredEvent], bool]) -> int:
    """The place of the last event that fits, where only the first ones of `stream` do. By bisection."""
    head = history.head(stream)
    low, high = head.first - 1, head.seq
    while low < high:
        middle = (low + high + 1) // 2
        page = await history.read(stream, middle - 1, events_max=1)
        if page and fits(page[0]):
            low = max(place(page[0], stream), middle)
        else:
            high = middle - 1
    return low


async def pages_of(history: History, stream: str, after: int, upto: int) -> AsyncIterator[list[StoredEvent]]:
    """The events of one stream with `after` < seq <= `upto`, page by page."""
    while after < upto:
        page = await history.read(
            stream, after, events_max=min(PAGE_EVENTS_MAX, upto - after), bytes_max=PAGE_BYTES_MAX
        )
        if page and place(page[-1], stream) > upto:
            page = [event for event in page if place(event, stream) <= upto]
        if not page:
            return
        yield page
        after = place(page[-1], stream)


async def events_of(history: History, stream: str, after: int, upto: int) -> AsyncIterator[StoredEvent]:
    """As `pages_of`, event by event."""
    async for page in pages_of(history, stream, after, upto):
        for event in page:
            yield event


async def merged(
    history: History, streams: Sequence[str], after: int, upto: int
) -> AsyncIterator[list[StoredEvent]]:
    """The events of several streams with `after` < position <= `upto`, in the order of the log.

    They come in pieces: each ends at the position up to which every stream has been read.
    """
    sources: dict[AsyncIterator[list[StoredEvent]], list[StoredEvent]] = {}
    for stream in dict.fromkeys(streams):
        seqs = await seq_at(history, stream, after), await seq_at(history, stream, upto)
        source = pages_of(history, stream, *seqs)
        page = await anext(source, None)
        if page is not None:
            sources[source] = page
    while sources:
        sure = min(page[-1].position for page in sources.values())
        piece: list[StoredEvent] = []
        for source, page in tuple(sources.items()):
            cut = bisect_right(page, sure, key=_position)
            piece += page[:cut]
            following = page[cut:] if cut < len(page) else await anext(source, None)
            if following is None:
                del sources[source]
            else:
                sources[source] = following
        piece.sort(key=_position)  # cheap: the piece consists of sorted runs
        yield piece
