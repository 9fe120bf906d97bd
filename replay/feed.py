"""Cursors over the log as it grows: signal, then read.

`Feed` listens to the log, keeps the newest events in memory and passes those of each commit to its taps. A
reader calls `peek`, which answers from memory or says that `fetch` must ask the store. A reader is only a
number, so an idle one costs nothing. A lost signal does no harm, because every answer compares with the
log's head. A tap serves many readers. It may also be told that events are missing, and its readers then
read the log themselves. A caller that asks for a key that is being read gets the same answer
(`SharedReads`).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence

import msgspec
import structlog

from huahuo.eventstore.core.reader import is_receipt
from huahuo.eventstore.model import LOG_STREAM, Head, Joined, Page, StoredEvent, joined_of
from huahuo.eventstore.port import Log
from huahuo.replay.tail import Tail


class SharedReads[K: Hashable, V]:
    """At most `at_once_max` reads run at a time, in the order of the requests.

    A few worker tasks serve the queue, because in a reconnect storm of thousands one task per read would cost
    more than the reads. Up to `together_max` waiting keys are read together, which saves hops to another
    thread. If such a read fails, each key is tried again alone, so that one bad key does not fail the others.
    All methods belong to the loop's thread.
    """

    def __init__(
        self, read: Callable[[Sequence[K]], Awaitable[Sequence[V]]], at_once_max: int, together_max: int = 1
    ) -> None:
        """`read` answers each key in order, or raises for all of them."""
        self._read = read
        self._at_once_max = at_once_max
        self._together_max = together_max
        self._queue: deque[K] = deque()
        self._asking: dict[K, list[asyncio.Future[V]]] = {}
        self._working = 0
        self._workers: set[asyncio.Task[None]] = set()  # asyncio holds its tasks only weakly

    async def get(self, key: K) -> V:
        """What `read` gives for `key`, or raises. A caller that is cancelled does not cancel the others."""
        answer = self.ask(key)
        try:
            return await answer
        finally:
            del answer  # else a cycle: the exception holds this frame, the future the exception

    def ask(self, key: K) -> asyncio.Future[V]:
        """As `get`, for a caller that asks for several keys before it waits for the first."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[V] = loop.create_future()
        asking = self._asking.get(key)
        if asking is None:
            self._asking[key] = [answer]
            self._queue.append(key)
            if self._working < self._at_once_max:
                self._working += 1
                worker = loop.create_task(self._work())
                self._workers.add(worker)
                worker.add_done_callback(self._workers.discard)
        else:
            asking.append(answer)
        return answer

    async def _work(self) -> None:
        try:
            while self._queue:
                count = min(len(self._queue), self._together_max)
                await self._answer([self._queue.popleft() for _ in range(count)])
        finally:
            # Not in a done callback: until that ran, a new key would find no free worker to start.
            self._working -= 1

    async def _answer(self, keys: Sequence[K]) -> None:
        wanted = [key for key in keys if self._is_wanted(key)]
        if not wanted:
            return
        try:
            await self._read_and_answer(wanted)
        except asyncio.CancelledError:
            for key in wanted:
                for answer in self._asking.pop(key, ()):
                    answer.cancel()
            raise

    async def _read_and_answer(self, wanted: Sequence[K]) -> None:
        try:
            values = await self._read(wanted)
        except Exception as error:  # noqa: BLE001  every exception goes to the callers
            if len(wanted) > 1:
                for key in wanted:
                    await self._read_and_answer([key])
                return
            for answer in self._asking.pop(wanted[0]):
                if not answer.done():
                    answer.set_exception(error)
                del answer  # else a cycle: the exception holds this frame
        else:
            for key, value in zip(wanted, values, strict=True):
                for answer in self._asking.pop(key):
                    if not answer.done():
                        answer.set_result(value)

    def _is_wanted(self, key: K) -> bool:
        """Whether a caller still waits for `key`. If none does, the key is forgotten."""
        if all(answer.done() for answer in self._asking[key]):
            del self._asking[key]
            return False
        return True


_log = structlog.get_logger(__name__)

_MEMO_MAX = 1024
"""Runs kept for sharing between readers until the next commit."""

_IDLE_BYTES = 4 << 20
"""Recent events that an idle service keeps. A client that reconnects is seldom further behind."""

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


type _Key = tuple[str, int, int, int]
type _Read = tuple[str, int, int, int]

type CatchUp = Callable[[Sequence[EventPlace]], Awaitable[bool]]
"""Waits a little for these events. True: the heads here are those of the log now, or later ones."""

type Tap = Callable[[Mapping[str, Sequence[StoredEvent]] | None], None]
"""Receives the events of a commit by stream (on `log`: all of them), without a gap in any stream.

None: signals were lost, so any stream may have new events.
"""


type Today = Callable[[StoredEvent], StoredEvent]
"""An event as today's version of its type has it. Raises whatever an application's upcast raises."""


class Feed:
    """Reads every stream of one log, live and stored. All methods belong to the loop's thread."""

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
        self._taps: tuple[Tap, ...] = ()
        self._today: dict[str, Today] = {}
        self._reads: SharedReads[_Read, Run] = SharedReads(self._read, reads_max)
        self._pages: SharedReads[Page, Run] = SharedReads(self._read_pages, _JOINED_READS, _PAGES_TOGETHER)
        self._links: SharedReads[EventPlace, bytes | None] = SharedReads(
            log.links, _LINK_READS, _LINKS_TOGETHER
        )
        self._unlisten = log.listen(self._on_commit)
        self.catch_up: CatchUp | None = None
        """None: nobody else writes the log, so its heads here are its heads."""
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

    def ask(
        self, stream: str, after: int, *, events_max: int, bytes_max: int, joined: bool
    ) -> asyncio.Future[Run]:
        """As `fetch`, without a task that waits. Cancel the answer if it is wanted no more.

        `joined`: with the bodies in `joined` (`bytes_max` includes the commas) and without `events`. For any
        stream but `log`.
        """
        if after >= self._log.head(stream).seq:
            answer: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
            answer.set_result(Run(stream, after))
            return answer
        if joined:
            return self._pages.ask(Page(stream, after, events_max, bytes_max))
        return self._reads.ask((stream, after, events_max, bytes_max))

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

    def show_as_today(self, kind: str, today: Today) -> None:
        """From now on, give stored events of streams `<kind>/…` as `today` makes them.

        Pages of such streams are read event by event, once for all readers. Events in memory are not asked
        about: today's code wrote them. One that cannot be brought to today's version is given as stored.
        """
        self._today[kind] = today

    async def read_as_today(
        self, stream: str, after: int, *, events_max: int, bytes_max: int
    ) -> Sequence[StoredEvent]:
        """As `Log.read`, with the events as `show_as_today` says. Not shared with other readers."""
        self.fetches += 1
        events = await self._log.read(stream, after, events_max=events_max, bytes_max=bytes_max)
        return self._as_today(stream, events)

    async def join_as_today(self, pages: Sequence[Page]) -> list[Joined | None]:
        """As `Log.read_joined_pages`, in the same way."""
        self.fetches += len(pages)
        old = [page for page in pages if page.stream.partition("/")[0] in self._today]
        return await self._read_old(pages, old) if old else await self._log.read_joined_pages(pages)

    def tap(self, tap: Tap) -> Callable[[], None]:
        """Call `tap` once for each commit; the result ends it.

        It runs on the loop, after `peek` sees the new events. It must be short and must not raise.
        """
        self._taps = (*self._taps, tap)

        def untap() -> None:
            self._taps = tuple(one for one in self._taps if one is not tap)

        return untap

    def let_go(self) -> None:
        """Keep little of the recent events: readers that are behind can have them from the store."""
        self._memo.clear()
        self._tail.lighten(_IDLE_BYTES)

    def close(self) -> None:
        """Stop listening to the log and calling taps. Idempotent."""
        self._unlisten()
        self._taps = ()

    async def _read_pages(self, pages: Sequence[Page]) -> list[Run]:
        heads = [self._log.head(page.stream).seq for page in pages]
        found = await self.join_as_today(pages)
        return [
            _placed(Run(page.stream, page.after, joined=joined), joined.first if joined else None, head)
            for page, joined, head in zip(pages, found, heads, strict=True)
        ]

    async def _read_old(self, pages: Sequence[Page], old: Sequence[Page]) -> list[Joined | None]:
        """As `Log.read_joined_pages`, of which `old` may hold events of older versions."""
        others = [page for page in pages if page not in old]
        joined = dict(zip(others, await self._log.read_joined_pages(others) if others else (), strict=True))
        for page, events in zip(old, await self._log.read_pages(old), strict=True):
            today = self._as_today(page.stream, events)
            joined[page] = joined_of(((event.seq, event.body) for event in today), page.bytes_max)
        return [joined[page] for page in pages]

    def _as_today(self, stream: str, events: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        today = self._today.get(stream.partition("/")[0])
        if today is None:
            return events
        shown: list[StoredEvent] = []
        for event in events:
            try:
                shown.append(today(event))
            except Exception as error:  # noqa: BLE001  an application's code
                where = f"{event.stream}#{event.seq}"
                _log.warning("event_not_upcast", at=where, type=event.type, error=type(error).__name__)
                shown.append(event)
        return shown

    async def _read(self, keys: Sequence[_Read]) -> list[Run]:
        [(stream, after, events_max, bytes_max)] = keys
        head = self._log.head(stream).seq
        events = await self.read_as_today(stream, after, events_max=events_max, bytes_max=bytes_max)
        places = [e.position for e in events] if stream == LOG_STREAM else [e.seq for e in events]
        whole = next((n for n, place in enumerate(places) if place != places[0] + n), len(places))
        return [_placed(Run(stream, after, tuple(events[:whole])), places[0] if places else None, head)]

    def _on_commit(self, events: Sequence[StoredEvent]) -> None:
        self._memo.clear()
        if any(map(is_receipt, events)):
            self._tail.lighten(0)  # it may hold what was pruned
        by_stream = self._tail.extend(events)
        if by_stream is not None:
            self._tell({**by_stream, LOG_STREAM: events})
        else:
            self.missed += 1
            self._tell(None)

    def _tell(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        for tap in self._taps:
            try:
                tap(by_stream)
            except Exception:  # noqa: BLE001  a tap's fault is not the log's, nor that of the other taps
                _log.exception("tap_failed")


def _placed(run: Run, first: int | None, head: int) -> Run:
    """`run`, whose events begin at `first`. If a gap comes before them, a run that skips the gap instead."""
    if first is None:
        # A read returns at least one event if there is one, so all events up to the head are gone.
        return Run(run.stream, run.after, skipped_to=head)
    if first != run.after + 1:
        return Run(run.stream, run.after, skipped_to=first - 1)
    return run
