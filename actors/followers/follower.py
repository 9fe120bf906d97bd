"""Followers at work: each is a task that reads the log behind its cursor and calls its function.

The cursor is stored after each batch that was delivered, so a crash repeats one batch. A follower that
keeps the cursor in its own database is asked for it at the start and after each failure, since only that
database knows whether the last batch came to be. `Followers` starts and stops them all, passes on the
signal of new events, and does what administrators ask for.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import structlog

from huahuo.actors.actor.messages import where
from huahuo.actors.entities.rendezvous_hash import WHOLE, Share
from huahuo.actors.followers import record
from huahuo.actors.followers.record import DeadLetters
from huahuo.actors.followers.spec import BACKOFF_S_MAX, Course, FollowerRun, ReadEvent, Spec, backoff_s
from huahuo.actors.plugins.plugin import Gauges, Standing
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import cancel_all, is_cancelled
from huahuo.eventstore.errors import Corrupt, EventStoreError, Unavailable
from huahuo.eventstore.model import LOG_STREAM, Append, RowDrop, RowPut, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.feed import Feed

_log = structlog.get_logger(__name__)


_PAGE_EVENTS: Final = 256
_PAGE_BYTES: Final = 256 << 10
_SAVE_EVERY: Final = 10_000
"""A cursor that only passed events of other kinds is stored after as many. A start reads them again."""
_AGAIN_S: Final = 1.0
_AGAIN_S_MAX: Final = 60.0
"""The first and the longest pause after the log could not be read or written. It doubles each time."""
_CLOSE_S: Final = 1.0


class Follower:
    """One follower at work: a task that reads the log behind its cursor, and calls its function.

    All methods belong to the loop's thread.
    """

    def __init__(self, spec: Spec, *, log: Log, feed: Feed, ambient: Ambient, read: ReadEvent) -> None:
        self.spec = spec
        self._log = log
        self._feed = feed
        self._ambient = ambient
        self._read_event = read
        self._begun_ms: int | None = None
        """Since when the function runs."""
        self.error = ""
        """The type of the last exception, until a delivery succeeds."""
        self.delivered = 0
        self.failed = 0
        self._course = Course(0, spec.batch)
        self._saved = 0
        self._placed = spec.cursor is None
        """Whether the course begins where the follower's own database says."""
        self._misplaced = 0
        """How often that could not be found out, since it last could."""
        self.paused = False
        self._pausing = False
        """Whether it is not known if the last pause or its end was recorded."""
        self.dead = DeadLetters(spec.name, log=log, ambient=ambient, store=self._store)
        self._looks_again = False
        self._changed = asyncio.Event()
        """There may be new events, or what `_told` says."""
        self._told = asyncio.Event()
        """The follower was paused, resumed or ended, or is to try dead letters again."""
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    @property
    def cursor(self) -> int:
        """Everything up to this position is dealt with."""
        return self._course.cursor

    @property
    def lag(self) -> int:
        """Events of the log, of any kind, behind the cursor."""
        return max(0, self._log.position - self.cursor)

    @property
    def busy_s(self) -> float:
        """How long the function has been running."""
        return 0.0 if self._begun_ms is None else (self._ambient.now_ms() - self._begun_ms) / 1000

    @property
    def state(self) -> str:
        """In a word or two, for people."""
        if self.paused:
            return "paused"
        if self.error:
            return "too many dead letters" if self.dead.full else "retrying"
        return "up to date" if not self.lag else "behind"

    def standing(self, what: str = "follower") -> Standing:
        """Where it stands, for people."""
        error = self.error or next((letter.error for letter in self.dead.values()), "")
        return Standing(self.spec.name, what, self.cursor, self.lag, self.state, len(self.dead), error)

    def look_again(self) -> None:
        """An administrator may have done something with it, on any node: read in the log what."""
        self._looks_again = True
        self.tell()

    def start_over(self) -> None:
        """Ask its own database for the cursor again: somebody has put that to another place."""
        self._placed = self.spec.cursor is None
        self.tell()

    @property
    def runs(self) -> bool:
        """Whether it is at work here, or at rest because it is paused."""
        return self._task is not None and not self._ending

    @property
    def late(self) -> asyncio.Task[None] | None:
        """Its task, if that was closed and still runs: its function outlasts its cancellation."""
        return None if self._task is None or self._task.done() or not self._ending else self._task

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done."""
        stuck = self.paused or (self.dead.full and bool(self.error))
        stopped = self._task is None or self._task.done() or stuck
        return stopped or (self._placed and not self.lag and not self.dead.again and self._begun_ms is None)

    async def begin(self) -> None:
        """Read where it stands, and start; not while it is `late`. Raises as `Log.append`.

        If that is damaged, it does not start, and says so: from a wrong place it would leave events out.
        """
        try:
            kept = await record.read(self._log, self.spec.name)
        except Corrupt as error:
            self.error = type(error).__name__
            _log.error(
                "follower_place_lost", follower=self.spec.name, reason=str(error),
                what_to_do=f"stop the service, then huahuo projections place {self.spec.name} --after N",
            )  # fmt: skip
            return
        self.error = ""
        self.paused = kept.paused
        self.dead.take_over(kept.dead)
        after = kept.cursor
        if after is None:
            after = 0 if self.spec.first == "start" else self._log.position
            row = record.put_cursor(self.spec.name, after, self._ambient.now_ms())
            await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=(row,)))
        self._saved = after
        self._course = Course(after, self.spec.batch)
        self._ending = False
        self._task = asyncio.get_running_loop().create_task(self._follow(), name=f"follower {self.spec.name}")

    def heard(self, kinds: AbstractSet[str], types: AbstractSet[str], first: int, last: int) -> None:
        """The events at these positions were committed, of these types and on streams of these kinds."""
        passed = not self.spec.wants(kinds, types) and self._course.skip(first, last)
        if not passed or self.cursor - self._saved >= _SAVE_EVERY:
            self._changed.set()

    def wake(self) -> None:
        """There may be new events."""
        self._changed.set()

    def tell(self) -> None:
        """What it should do has changed: go on at once."""
        self._told.set()
        self._changed.set()

    async def pause(self, by: str, *, paused: bool) -> None:
        """Begin no further batch, or go on. Raises as `Log.append`."""
        if not self.runs:
            await self._take_recorded()  # another node may have changed it
        if self.paused != paused or self._pausing:
            self._pausing = True
            await self._log.append(record.pausing(self.spec.name, by, self._ambient.now_ms(), paused=paused))
            self.paused, self._pausing = paused, False
        self.tell()

    async def retry(self, by: str) -> int:
        """Try all dead letters again, the oldest first, and return how many. Raises as `Log.append`."""
        if not self.runs:
            await self._take_recorded()
        if count := await self.dead.retry(by):
            self.tell()
        return count

    async def drain(self, timeout_s: float) -> None:
        """Begin no further batch, and let the one under way come to its end."""
        self._ending = True
        self.tell()
        if self._task is not None and timeout_s > 0:
            await asyncio.wait({self._task}, timeout=timeout_s)

    async def close(self) -> None:
        """Cut short what runs: the next start repeats it. Idempotent."""
        self._ending = True
        if self._task is not None and await cancel_all([self._task], _CLOSE_S):
            _log.warning("follower_not_stopped_in_time", follower=self.spec.name)

    async def _follow(self) -> None:
        troubles = 0
        while not self._ending:
            try:
                await self._turn()
                troubles = 0
            except Exception as error:  # noqa: BLE001  the log cannot be read, or a fault of ours
                troubles += 1
                _log.warning(
                    "follower_waits", follower=self.spec.name, error=type(error).__name__, at=where(error)
                )
                await self._rest(min(_AGAIN_S_MAX, _AGAIN_S * 2.0 ** min(troubles - 1, 10)))
        if self.cursor != self._saved:
            with contextlib.suppress(EventStoreError):
                await self._write()

    async def _turn(self) -> None:
        self._told.clear()
        self._changed.clear()
        if self._looks_again:
            await self._take_recorded()
        elif self.paused:
            await self._told.wait()
        elif not self._placed:
            await self._place()
        elif self.dead.again:
            await self._deliver_dead(self.dead.again[0])
        else:
            await self._read()
            if batch := self._course.batch():
                await self._deliver(batch)
            else:
                if self.cursor - self._saved >= _SAVE_EVERY:
                    await self._pass()
                await self._changed.wait()

    async def _take_recorded(self) -> None:
        """Take over whether it is paused, and which dead letters are to be tried again."""
        self._looks_again = False
        async with self.dead.changing:
            kept = await record.read(self._log, self.spec.name)
            self.paused = kept.paused
            self.dead.take_over(kept.dead)

    async def _place(self) -> None:
        """Go to where the follower's own database is."""
        assert self.spec.cursor is not None, "the log keeps the others' cursors"
        try:
            cursor = await self.spec.cursor()
            if not 0 <= cursor <= self._log.position:
                raise ValueError(f"its own cursor is {cursor!r}, and the log ends at {self._log.position}")  # noqa: TRY301
        except BaseException as error:  # user code
            if is_cancelled(error):
                raise
            self._misplaced += 1
            self._say(error, "follower_cursor_not_read", attempt=self._misplaced)
            await self._rest(self._wait_s(self._misplaced))
            return
        self._course.go_to(cursor)
        self._placed, self._misplaced = True, 0

    async def _read(self) -> None:
        course, feed = self._course, self._feed
        while course.wants_more and course.seen < feed.head(LOG_STREAM).seq and not self._told.is_set():
            after = course.seen
            run = feed.peek(LOG_STREAM, after, events_max=_PAGE_EVENTS, bytes_max=_PAGE_BYTES)
            if run is None:
                run = await feed.fetch(LOG_STREAM, after, events_max=_PAGE_EVENTS, bytes_max=_PAGE_BYTES)
            course.take_up([event for event in run.events if self._concerns(event)], run.last)
            await asyncio.sleep(0)

    def _concerns(self, event: StoredEvent) -> bool:
        spec = self.spec
        if spec.types and event.type not in spec.types:
            return False
        return event.stream.partition("/")[0] in spec.kinds and event.position not in self.dead

    async def _deliver(self, batch: Sequence[StoredEvent]) -> None:
        run = FollowerRun(self.spec.name, batch[-1].position, self._course.failures + 1)
        error = await self._call(batch, run)
        if error is None:
            self._course.done(batch)
            if self.spec.cursor is None:
                await self._write()
            return
        self._placed = self.spec.cursor is None
        failures = self._course.failed(batch)
        if failures > self.spec.retries and not self.dead.full and not self.spec.waits_out(error):
            await self.dead.put_aside(batch[0], failures, error)
            self._course.done(batch[:1])
            self.error = ""  # the letter has it, and nothing is tried again
        else:
            await self._rest(self._wait_s(max(1, failures)))

    async def _deliver_dead(self, position: int) -> None:
        """Try a dead letter again, once."""
        name = self.spec.name
        run = await self._feed.fetch(LOG_STREAM, position - 1, events_max=1, bytes_max=_PAGE_BYTES)
        event = run.events[0] if run.events else None
        error = None
        if event is not None:
            told = FollowerRun(name, self.cursor, self.dead[position].attempts + 1, again=True)
            error = await self._call([event], told)
        if error is not None:
            self._placed = self.spec.cursor is None
        await self.dead.tried(position, error)
        if not self._course.failures:
            self.error = ""

    async def _call(self, batch: Sequence[StoredEvent], run: FollowerRun) -> BaseException | None:
        """Call the function, and return what it raised. One call at a time."""
        self._begun_ms = self._ambient.now_ms()
        try:
            await self.spec.call([self._read_event(event) for event in batch], run)
        except BaseException as error:  # user code
            if is_cancelled(error):
                raise
            self.failed += 1
            about = {"stream": batch[0].stream, "seq": batch[0].seq} if batch else {}
            self._say(error, "follower_failed", attempt=run.attempt, **about)
            return error
        finally:
            self._begun_ms = None
        self.delivered += len(batch)
        self.error = ""
        return None

    def _say(self, error: BaseException, what: str, **more: object) -> None:
        """Log a failure. Its text is not logged, because it may quote what nobody should read."""
        self.error = type(error).__name__
        _log.warning(what, follower=self.spec.name, error=self.error, at=where(error), **more)

    async def _pass(self) -> None:
        """Store the cursor, behind events that it does not want."""
        run = FollowerRun(self.spec.name, self.cursor)
        if self.spec.passing and await self._call([], run) is not None:
            return
        await self._write()

    async def _write(self) -> None:
        """Store the cursor."""
        cursor = self.cursor
        await self._store(record.put_cursor(self.spec.name, cursor, self._ambient.now_ms()))
        self._saved = cursor

    async def _store(self, *rows: RowPut | RowDrop) -> None:
        """Write these rows, however long that takes. Raises EventStoreError only while the service stops.

        To write them twice does no harm, so it does not matter whether an append of unknown outcome was made.
        """
        while True:
            try:
                await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=rows))
            except EventStoreError as error:
                if self._ending:
                    raise
                _log.warning("follower_not_stored", follower=self.spec.name, error=type(error).__name__)
                await self._rest(_AGAIN_S)
            else:
                return

    def _wait_s(self, failures: int) -> float:
        if failures > self.spec.retries:
            return BACKOFF_S_MAX
        return backoff_s(self.spec.backoff_s, failures, self._ambient.random())

    async def _rest(self, seconds: float) -> None:
        """Wait, unless the follower is told something first."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()


_ANY: Final[frozenset[str]] = frozenset()


class Followers:
    """All followers of a service: start and stop, the signal of new events, and what administrators may do.

    All methods belong to the loop's thread.
    """

    def __init__(
        self, specs: Sequence[Spec], *, log: Log, feed: Feed, ambient: Ambient, read: ReadEvent
    ) -> None:
        self._feed = feed
        self._log = log
        self.by_name = {
            spec.name: Follower(spec, log=log, feed=feed, ambient=ambient, read=read) for spec in specs
        }
        self._chosen = any(one.spec.types for one in self.by_name.values())
        """Whether one of them wants only some types of events."""
        self._untap = _nothing
        self._behind: list[asyncio.Task[None]] = []
        """Each begins a follower once its task of before has ended: two would deliver each event twice."""

    def show(self, metrics: Gauges) -> None:
        """What can be seen of followers from outside."""
        each = self.by_name.values()
        metrics.gauge(
            "followers_lag_events",
            "Events behind the follower that is furthest behind.",
            lambda: max((one.lag for one in each), default=0),
        )
        metrics.gauge(
            "followers_busy_seconds",
            "For how long the longest delivery has been under way.",
            lambda: max((one.busy_s for one in each), default=0.0),
        )
        metrics.gauge(
            "followers_dead_letters",
            "Events that followers could not deal with.",
            lambda: sum(len(one.dead) for one in each),
        )
        metrics.gauge(
            "followers_paused", "Followers that are paused.", lambda: sum(one.paused for one in each)
        )
        metrics.gauge("followers", "Followers of the application.", lambda: len(self.by_name))
        metrics.total(
            "followers_delivered",
            "Events that followers dealt with.",
            lambda: sum(one.delivered for one in each),
        )
        metrics.total("followers_failed", "Deliveries that failed.", lambda: sum(one.failed for one in each))

    async def start(self, share: Share = WHOLE) -> None:
        """Go on where each follower of this share stands. Raises Closed, Unavailable: the log is not read."""
        if self.by_name:
            self._untap = self._feed.tap(self._committed)
            await self.divide(share)

    async def divide(self, share: Share) -> None:
        """Followers are divided among nodes by their names: run those of this share, and no others."""
        await self._stop_behind()
        for name, one in self.by_name.items():
            if not share.has(f"follower {name}"):
                await one.close()
            elif (late := one.late) is not None:
                begins = self._begin_behind(late, one)
                self._behind.append(asyncio.get_running_loop().create_task(begins, name=f"{name} begins"))
            elif not one.runs:
                await one.begin()
        self._committed(None)

    async def drain(self, timeout_s: float) -> None:
        """Let the batches under way come to their end."""
        await asyncio.gather(*(one.drain(timeout_s) for one in self.by_name.values()))

    async def close(self) -> None:
        """Cut short what runs. Idempotent."""
        self._untap()
        await self._stop_behind()
        await asyncio.gather(*(one.close() for one in self.by_name.values()))

    async def idle(self) -> None:
        """Return when no follower has anything to do."""
        while not all(one.idle for one in self.by_name.values()):  # noqa: ASYNC110  only tests wait for it
            await asyncio.sleep(0.05)

    async def standing(self) -> list[Standing]:
        """Where each of them stands, also those that another node runs. Raises Closed, Unavailable."""
        return [
            one.standing() if one.runs else await record.standing(self._log, name)
            for name, one in self.by_name.items()
        ]

    async def _begin_behind(self, late: asyncio.Task[None], one: Follower) -> None:
        await asyncio.wait({late})
        while True:
            try:
                await one.begin()
            except Unavailable:
                await asyncio.sleep(_AGAIN_S)
            except EventStoreError:  # the log is closed
                return
            else:
                return

    async def _stop_behind(self) -> None:
        behind, self._behind = self._behind, []
        await cancel_all(behind, _AGAIN_S)

    def _committed(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        if by_stream is None:
            for one in self.by_name.values():
                one.wake()
                one.look_again()
            return
        for event in by_stream.get(record.AUDIT, ()):
            if (name := record.told_of(event)) in self.by_name:
                self.by_name[name].look_again()  # an administrator may have asked another node
        kinds = {stream.partition("/")[0] for stream in by_stream}
        events = by_stream[LOG_STREAM]
        types = {event.type for event in events} if self._chosen else _ANY
        for one in self.by_name.values():
            one.heard(kinds, types, events[0].position, events[-1].position)


def _nothing() -> None:
    pass
