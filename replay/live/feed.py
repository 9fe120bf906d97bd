"""Cursors over the log: signal, then read.

`Feed` listens to the log, keeps the newest events in memory and wakes the watchers of a stream. A reader
calls `peek`, which answers from memory or says that `fetch` must ask the store. A reader is only a number, so
an idle one costs nothing. A lost signal does no harm, because every answer compares with the log's head. A
tap receives the events of each commit, for a caller that serves many readers at the head. A tap may also be
told that events are missing. Its readers then read the log themselves.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec
import structlog

from huahuo.eventstore.model import LOG_STREAM, Head, Joined, Page, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.live.sharing import SharedReads
from huahuo.replay.live.tail import Tail

_log = structlog.get_logger(__name__)

_MEMO_MAX = 1024
"""Runs kept for sharing between readers until the next commit."""

_JOINED_READS = 2
_PAGES_TOGETHER = 8
"""At most two reads run at once, eight pages each, so that a reconnect storm holds a few MiB."""


_LINK_READS = 1
_LINKS_TOGETHER = 64
"""One read of at most 64 links at a time. Links requested meanwhile are read together next."""

type EventPlace = tuple[str, int]
"""Stream and seq of an event."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """A piece of a stream: the events right after `after`, without a gap.

    On `log` the numbers are positions. For a reader that wants only the bodies, `joined` replaces `events`.
    `skipped_to` (0: none): everything up to there was compacted away, and the run has no events. A run
    without either is empty: there are no new events.
    """

    stream: str
    after: int
    events: tuple[StoredEvent, ...] = ()
    skipped_to: int = 0
    joined: Joined | None = None

    @property
    def count(self) -> int:
        """How many events it holds."""
        return len(self.events) if self.joined is None else self.joined.count

    @property
    def last(self) -> int:
        """The cursor of a reader after this run."""
        return self.skipped_to or self.after + self.count


class Watch:
    """A callback for the commits that touch one stream, until `close`. Also a context manager."""

    __slots__ = ("_callback", "_feed", "stream")

    def __init__(self, feed: "Feed", stream: str, callback: Callable[[], None]) -> None:
        self._feed = feed
        self._callback: Callable[[], None] | None = callback
        self.stream = stream

    def close(self) -> None:
        """End the calls, even for a commit whose watchers are being called right now. Idempotent."""
        if self._callback is not None:
            self._callback = None
            self._feed._forget(self)  # noqa: SLF001  the other half of this class

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self) -> None:
        if self._callback is None:
            return
        try:
            self._callback()
        except Exception:  # noqa: BLE001  a watcher's fault is not the log's, nor the other watchers'
            _log.exception("watcher_failed", stream=self.stream)


class _Watchers:
    """The watchers of one stream. The snapshot is rebuilt only after a change."""

    __slots__ = ("members", "snapshot")

    def __init__(self) -> None:
        self.members: dict[Watch, None] = {}
        self.snapshot: tuple[Watch, ...] | None = None

    def call(self) -> None:
        if self.snapshot is None:
            self.snapshot = tuple(self.members)
        for watch in self.snapshot:
            watch._call()  # noqa: SLF001  same module


type _Key = tuple[str, int, int, int]
type _Read = tuple[str, int, int, int]

type Tap = Callable[[Mapping[str, Sequence[StoredEvent]] | None], None]
"""Receives the events of a commit by stream (on `log`: all of them), without a gap in any stream.

None: signals were lost, so any stream may have new events.
"""


class Feed:
    """Reads and watches every stream of one log. All methods belong to the loop's thread."""

    def __init__(
        self,
        log: Log,
        *,
        tail_events_max: int = 65_536,
        tail_bytes_max: int = 64 << 20,
        reads_max: int = 8,
    ) -> None:
        self._log = log
        self._tail = Tail(events_max=tail_events_max, bytes_max=tail_bytes_max, position=log.position)
        self._memo: dict[_Key, Run] = {}
        self._watchers: dict[str, _Watchers] = {}
        self._taps: tuple[Tap, ...] = ()
        self._reads: SharedReads[_Read, Run] = SharedReads(self._read, reads_max)
        self._pages: SharedReads[Page, Run] = SharedReads(self._read_pages, _JOINED_READS, _PAGES_TOGETHER)
        self._links: SharedReads[EventPlace, bytes | None] = SharedReads(
            log.links, _LINK_READS, _LINKS_TOGETHER
        )
        self._unlisten = log.listen(self._on_commit)
        self.fetches = 0
        """Reads of the store so far."""
        self.missed = 0
        """How often a signal of the log was missing before the next one."""

    @property
    def tail(self) -> Tail:
        """The cache of recent events, for metrics."""
        return self._tail

    @property
    def tap_count(self) -> int:
        """How many are told of every commit."""
        return len(self._taps)

    @property
    def watched(self) -> int:
        """Number of streams that have a watcher."""
        return len(self._watchers)

    def head(self, stream: str) -> Head:
        """The head of `stream`. Only durable events count."""
        return self._log.head(stream)

    def peek(self, stream: str, after: int, *, events_max: int, bytes_max: int) -> Run | None:
        """The run after `after`, from memory.

        Returns:
            A run (empty if `after` is the head), or None if `fetch` must read it. Readers that ask for the
            same run between two commits get the same object.
        """
        if after >= self._log.head(stream).seq:
            return Run(stream, after)
        key = (stream, after, events_max, bytes_max)
        run = self._memo.get(key)
        if run is None:
            events = self._tail.events(stream, after, events_max=events_max, bytes_max=bytes_max)
            if events is None:
                return None
            run = Run(stream, after, events)
            if len(self._memo) < _MEMO_MAX:
                self._memo[key] = run
        return run

    async def fetch(self, stream: str, after: int, *, events_max: int, bytes_max: int) -> Run:
        """The run after `after`, one page from the store. Equal concurrent fetches share a read.

        Raises:
            Closed, Unavailable: the log could not be read.
        """
        if after >= self._log.head(stream).seq:
            return Run(stream, after)
        return await self._reads.get((stream, after, events_max, bytes_max))

    async def fetch_joined(self, stream: str, after: int, *, events_max: int, bytes_max: int) -> Run:
        """As `fetch`, with the bodies in `joined` (`bytes_max` includes the commas) and without `events`.

        For any stream but `log`.
        """
        if after >= self._log.head(stream).seq:
            return Run(stream, after)
        return await self._pages.get(Page(stream, after, events_max, bytes_max))

    def peek_link(self, stream: str, seq: int) -> bytes | None:
        """The link of the hash chain at an event, from memory. None if `links` must read it."""
        head = self._log.head(stream)
        if seq == head.seq and head.link:
            return head.link
        if seq > head.seq:
            return None
        found = self._tail.events(stream, seq - 1, events_max=1, bytes_max=0)
        return found[0].chain if found else None

    async def links(self, places: Sequence[EventPlace]) -> dict[EventPlace, bytes]:
        """The links at these events, from the store, without those of pruned or unknown events.

        Concurrent requests of several callers are read together.

        Raises:
            Closed, Unavailable: the log could not be read.
        """
        answers = [self._links.ask(place) for place in places]
        try:
            found = [await answer for answer in answers]
        finally:
            for answer in answers:
                answer.cancel()  # if one failed, the others are not awaited any more
        return {place: link for place, link in zip(places, found, strict=True) if link is not None}

    def watch(self, stream: str, callback: Callable[[], None]) -> Watch:
        """Call `callback` once for each commit that touched `stream` (`log`: for each commit).

        It runs on the loop, after `peek` sees the new events. It must be short and must not raise.
        """
        watch = Watch(self, stream, callback)
        watchers = self._watchers.get(stream)
        if watchers is None:
            watchers = self._watchers[stream] = _Watchers()
        watchers.members[watch] = None
        watchers.snapshot = None
        return watch

    def tap(self, tap: Tap) -> Callable[[], None]:
        """Pass every commit's events to `tap`, under the conditions of `watch`. The result ends it."""
        self._taps = (*self._taps, tap)

        def untap() -> None:
            self._taps = tuple(one for one in self._taps if one is not tap)

        return untap

    async def follow(
        self, stream: str, after: int, *, events_max: int = 256, bytes_max: int = 256 << 10
    ) -> AsyncGenerator[Run]:
        """Every run after `after`, without end: catch-up and live events take the same path.

        Close it (`contextlib.aclosing`) to stop watching.
        """
        woken = asyncio.Event()
        with self.watch(stream, woken.set):
            while True:
                woken.clear()
                run = self.peek(stream, after, events_max=events_max, bytes_max=bytes_max)
                if run is None:
                    run = await self.fetch(stream, after, events_max=events_max, bytes_max=bytes_max)
                if run.last > after:
                    after = run.last
                    yield run
                else:
                    await woken.wait()

    def close(self) -> None:
        """Stop listening to the log and calling watchers. Idempotent."""
        self._unlisten()
        self._watchers.clear()
        self._taps = ()

    async def _read_pages(self, pages: Sequence[Page]) -> list[Run]:
        self.fetches += len(pages)
        heads = [self._log.head(page.stream).seq for page in pages]
        found = await self._log.read_joined_pages(pages)
        return [
            _placed(Run(page.stream, page.after, joined=joined), joined.first if joined else None, head)
            for page, joined, head in zip(pages, found, heads, strict=True)
        ]

    async def _read(self, keys: Sequence[_Read]) -> list[Run]:
        [(stream, after, events_max, bytes_max)] = keys
        self.fetches += 1
        head = self._log.head(stream).seq
        events = await self._log.read(stream, after, events_max=events_max, bytes_max=bytes_max)
        places = [e.position for e in events] if stream == LOG_STREAM else [e.seq for e in events]
        whole = next((n for n, place in enumerate(places) if place != places[0] + n), len(places))
        return [_placed(Run(stream, after, tuple(events[:whole])), places[0] if places else None, head)]

    def _on_commit(self, events: Sequence[StoredEvent]) -> None:
        self._memo.clear()
        by_stream = self._tail.extend(events)
        if by_stream is not None:
            if self._watchers:
                self._wake((*by_stream, LOG_STREAM))
            self._tell({**by_stream, LOG_STREAM: events})
        else:
            # The lost signal may have concerned any stream, so wake every watcher.
            self.missed += 1
            self._wake(tuple(self._watchers))
            self._tell(None)

    def _tell(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        for tap in self._taps:
            try:
                tap(by_stream)
            except Exception:  # noqa: BLE001  as of a watcher
                _log.exception("tap_failed")

    def _wake(self, streams: Iterable[str]) -> None:
        for stream in streams:
            watchers = self._watchers.get(stream)
            if watchers is not None:
                watchers.call()

    def _forget(self, watch: Watch) -> None:
        watchers = self._watchers.get(watch.stream)
        if watchers is None:
            return
        watchers.members.pop(watch, None)
        watchers.snapshot = None
        if not watchers.members:
            del self._watchers[watch.stream]


def _placed(run: Run, first: int | None, head: int) -> Run:
    """`run`, whose events begin at `first`. If a gap comes before them, a run that skips the gap instead."""
    if first is None:
        # A read returns at least one event if there is one, so all events up to the head are gone.
        return Run(run.stream, run.after, skipped_to=head)
    if first != run.after + 1:
        return Run(run.stream, run.after, skipped_to=first - 1)
    return run
