"""Recorded history for looking back: reading a log, live or copied, and finding places and causes in it.

Pure.

Every `huahuo.eventstore.port.Log` is a `History`. So is a `ListHistory`, which holds the events of an
export or a fork in memory. Nothing here writes. Moments and events as a user names them:

| text | means |
|---|---|
| `17` | event 17 of the stream in question (of `log`: position 17) |
| `@4711` | position 4711 of the log |
| `2026-11-24T10:31:07Z`, `2026-11-24 10:31`, `2026-11-24` | a time, in UTC if no zone is given |
| `-5m`, `-90s`, `-2h`, `-3d` | this long before now |
| `head` | now |

An event names the position of the event that caused it. The facts of one append count as one: the effects
of one of them are effects of all that are about the same entity.
"""

import re
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final, Protocol

import msgspec

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


async def pages_of(
    history: History, stream: str, after: int, upto: int, *, events_max: int = PAGE_EVENTS_MAX,
    bytes_max: int = PAGE_BYTES_MAX,
) -> AsyncIterator[list[StoredEvent]]:  # fmt: skip
    """The events of one stream with `after` < seq <= `upto`, page by page."""
    while after < upto:
        page = await history.read(
            stream, after, events_max=min(events_max, upto - after), bytes_max=bytes_max
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


_AGO: Final = re.compile(r"-(\d{1,9})(ms|s|m|h|d|w)")
_UNIT_MS: Final = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_DATE: Final = re.compile(r"\d{4}-\d\d-")
_NUMBER: Final = re.compile(r"\d{1,18}")


class AtHead(msgspec.Struct, frozen=True):
    """After the newest event."""


class AtSeq(msgspec.Struct, frozen=True):
    """After event `seq` of the stream in question."""

    seq: int


class AtPosition(msgspec.Struct, frozen=True):
    """After the event at this position of the log."""

    position: int


class AtTime(msgspec.Struct, frozen=True):
    """After the last event that was written up to this time."""

    ms: int


type Moment = AtHead | AtSeq | AtPosition | AtTime


def parse_moment(text: str, now_ms: int) -> Moment:
    """The moment that `text` names, seen from `now_ms`.

    Raises:
        ValueError: `text` names no moment.
    """
    text = text.strip()
    if text in ("", "head", "now"):
        return AtHead()
    if _NUMBER.fullmatch(text):
        return AtSeq(int(text))
    if text[0] == "@" and _NUMBER.fullmatch(text[1:]):
        return AtPosition(int(text[1:]))
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return AtTime(now_ms - int(ago[1]) * _UNIT_MS[ago[2]])
    try:
        if not _DATE.match(text):
            raise ValueError  # noqa: TRY301  `1111111111` is a time to Python
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"not a moment: {text!r} (a seq, @POSITION, a time as 2026-11-24T10:31:07Z, or -5m)"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return AtTime(int(moment.timestamp() * 1000))


def parse_event(text: str) -> tuple[str, int]:
    """(stream, number) of an event named as `user/42#17`, `@4711` or `4711` (positions of `log`).

    Raises:
        ValueError: `text` names no event.
    """
    stream, mark, number = text.strip().rpartition("#")
    if mark and stream and _NUMBER.fullmatch(number):
        return stream, int(number)
    number = text.strip().removeprefix("@")
    if not mark and _NUMBER.fullmatch(number):
        return "log", int(number)
    raise ValueError(f"not an event: {text!r} (STREAM#SEQ, or its position in the log)")


DEPTH_MAX: Final = 1_000
_APPEND_EVENTS_MAX: Final = 1 << 16


class CauseLink(msgspec.Struct, frozen=True):
    """One append in a chain: an event, and its siblings, which it wrote about the same entity."""

    event: StoredEvent
    siblings: tuple[StoredEvent, ...]
    depth: int = 0

    @property
    def positions(self) -> frozenset[int]:
        """The positions of the event and its siblings."""
        return frozenset(e.position for e in (self.event, *self.siblings))


async def why(history: History, event: StoredEvent) -> list[CauseLink]:
    """The chain of causes that ends with `event`, the first cause first.

    The chain begins at an event that names no cause, or whose cause was compacted away.
    """
    chain = [CauseLink(event, await siblings(history, event))]
    while event.cause and len(chain) < DEPTH_MAX:
        if event.cause >= event.position:
            break
        cause = await event_at(history, event.cause)
        if cause is None:
            break
        event = cause
        chain.append(CauseLink(event, await siblings(history, event)))
    chain.reverse()
    return [msgspec.structs.replace(link, depth=depth) for depth, link in enumerate(chain)]


async def effects(history: History, event: StoredEvent, *, limit: int) -> AsyncIterator[CauseLink]:
    """The effects of `event`, in the order of the log, each with its depth; at most `limit`.

    Takes one pass over the log after the event.
    """
    first = CauseLink(event, await siblings(history, event))
    depths = dict.fromkeys(first.positions, 0)
    found = 0
    upto = history.position
    async for later in events_of(history, LOG_STREAM, event.position, upto):
        depth = depths.get(later.cause) if later.cause else None
        if depth is None or later.position in first.positions:
            continue
        depths[later.position] = depth + 1
        yield CauseLink(later, (), depth + 1)
        found += 1
        if found >= limit:
            return


async def siblings(history: History, event: StoredEvent) -> tuple[StoredEvent, ...]:
    """The other events of the same append about the same entity, of the same command.

    The log does not mark where an append begins. Neighbours with the same time, author, command and cause
    count as one append. Two appends that agree in all of these have the same origin anyway. Timers share
    appends, so between two events of one command there may be those of others, also ones compacted away.
    """
    around = [other async for other in _events_beside(_caused_before(history, event.position), event)]
    upto = event.position + _APPEND_EVENTS_MAX
    later = events_of(history, LOG_STREAM, event.position, upto)
    return (*reversed(around), *[other async for other in _events_beside(later, event)])


async def _caused_before(history: History, position: int) -> AsyncIterator[StoredEvent]:
    """The events before a position, the nearest first: few at once at first, as most appends are small."""
    high, count, least = position - 1, 8, max(0, position - 1 - _APPEND_EVENTS_MAX)
    while high > least:
        low = max(least, high - count)
        for event in reversed([event async for event in events_of(history, LOG_STREAM, low, high)]):
            yield event
        high, count = low, min(2 * count, PAGE_EVENTS_MAX)


async def _events_beside(
    events: AsyncIterator[StoredEvent], event: StoredEvent
) -> AsyncIterator[StoredEvent]:
    """Those of one append and command with `event`, of `events` that lead away from it."""
    at = event.position
    async for other in events:
        gap = abs(other.position - at) > 1
        if not _same_append(other, event) or (gap and not event.command_id):
            return
        at = other.position
        if (other.entity, other.command_id) == (event.entity, event.command_id):
            yield other


def _same_append(one: StoredEvent, other: StoredEvent) -> bool:
    """Whether they may be of one append: of one command, or of two whose ids tell them apart."""
    named = bool(one.command_id) == bool(other.command_id)
    return named and (one.ts_ms, one.principal, one.cause, one.build) == (
        other.ts_ms,
        other.principal,
        other.cause,
        other.build,
    )
