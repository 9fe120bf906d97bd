"""Runs open effects as tasks, retries them, and finds again what an earlier process left.

A bounded number of effects is in memory: those that wait for their turn, and those that wait for their
time. The others stay in the log's table; when there is room it is looked through again, the oldest first,
one look at a time.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import structlog
from msgspec import Raw

from huahuo.actors.actor.messages import where
from huahuo.actors.effects.books import ENDED, HELD, TAKEN_OVER, Books, Hold, RunOver
from huahuo.actors.effects.facts import (
    CANCELLED,
    DONE,
    FAILED,
    Cancel,
    OpenEffect,
    Start,
    UnknownEffect,
    unknown,
)
from huahuo.actors.effects.queue import Bounds, Entry, Failure, Known, Line, Part, Spec, backoff_s, group_of
from huahuo.actors.effects.run import AGAIN, LEFT, LEFT_OPEN, EffectRun, TracesRuns, inside
from huahuo.actors.entities.rendezvous_hash import Share
from huahuo.actors.plugins.calls import UserId
from huahuo.actors.plugins.plugin import Gauges
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import cancel_all, is_cancelled
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.port import Log

_log = structlog.get_logger(__name__)

_JOB_BYTES_KEPT: Final = 512
"""Larger arguments are read from the table when the run begins."""


_PAGE_ROWS: Final = 500
"""At most 32 MiB at a time: arguments may have 64 KiB each."""
SHARED_SWEEP_S: Final = 1.0
"""With several nodes: how often each one looks for effects of its part that other nodes asked for, and for
effects of nodes that ended."""
_LEFT_S: Final = 2.0
"""The pause after a run that the service itself cut short."""


class Effects:
    """The shell: runs open effects as tasks, retries them, and finds again what an earlier process left.

    All methods belong to the loop's thread.
    """

    def __init__(
        self,
        *,
        log: Log,
        ambient: Ambient,
        books: Books,
        specs: Mapping[tuple[str, str], Spec],
        wait_s: Callable[[UserId], float] = lambda _user: 0.0,
        bounds: Bounds = Bounds(),  # noqa: B008  frozen
        shared: bool = False,
        claims: bool = True,
    ) -> None:
        """`wait_s`, `shared`: see `Host`. If shared, nothing runs before `start`, or after `rest`.

        `claims`: see `Part`.
        """
        self.draining = False
        self._ambient = ambient
        self._specs = specs
        self._bounds = bounds
        self._line = Line(bounds.waiting_max, bounds.waiting_per_user_max)
        self._known = Known()
        self.forget = self._known.drop
        """Nothing is left to do about it here."""
        self._running: dict[int, asyncio.Task[None]] = {}
        self._offered_meanwhile: set[int] = set()
        """Effects that were offered while a run of them was still coming to its end."""
        self._asleep: dict[int, asyncio.TimerHandle] = {}
        self._held: dict[int, str] = {}
        """Effects that other nodes run, and which incarnations those are."""
        self._part = Part(claims=claims)
        self._refused: set[UserId | None] = set()
        """Users with effects in the table for which there was no room."""
        self._more = False
        """Whether the table has effects that were not looked at."""
        self.by_user: Counter[UserId | None] = Counter()
        """Runs, of each user that has any."""
        self.opened = 0
        """How many effects are open, in memory or not."""
        self.retries = 0
        self.ends: Counter[str] = Counter()
        """Effects that ended since the start, by outcome."""
        self._log = log
        self._books = books
        self._traced: TracesRuns | None = None
        """The listener for runs whose command was traced."""
        self._owed_s = wait_s
        self._ending: set[asyncio.Task[None]] = set()
        self._looked_at = -1
        self._tick_s = self._unswept_s = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._lap: asyncio.Task[None] | None = None
        """The look through the table that is under way."""
        self._timer: asyncio.TimerHandle | None = None
        self._shared = self._resting = shared

    @property
    def running(self) -> int:
        """How many run now."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many wait in memory for their turn, or for their next attempt."""
        return len(self._line.waiting) + len(self._asleep)

    def at_work(self) -> Collection[tuple[UserId, int]]:
        """Users, and how many effects run for each."""
        return [(user, count) for user, count in self.by_user.items() if user is not None]

    def show(self, metrics: Gauges) -> None:
        """What can be seen of effects from outside."""
        metrics.gauge("effects_open", "Effects that have not ended.", lambda: self.opened)
        metrics.gauge("effects_running", "Effects that run.", lambda: self.running)
        metrics.gauge("effects_waiting", "Effects that wait in memory.", lambda: self.waiting)
        metrics.gauge("effects_oldest_seconds", "Age of the oldest open effect.", self.oldest_s)
        metrics.total(
            "effects_retried", "Runs of effects that failed and were repeated.", lambda: self.retries
        )
        metrics.total("effects_done", "Effects that returned.", lambda: self.ends[DONE])
        metrics.total("effects_failed", "Effects that failed for good.", lambda: self.ends[FAILED])
        metrics.total("effects_cancelled", "Effects that were cancelled.", lambda: self.ends[CANCELLED])

    def oldest_s(self) -> float:
        """The age of the oldest effect in memory, in seconds. One that never returns makes it grow."""
        oldest_ms = min((entry.since_ms for entry in self._known.values()), default=None)
        return 0.0 if oldest_ms is None else max(0.0, (self._ambient.now_ms() - oldest_ms) / 1000)

    def trace(self, traced: TracesRuns) -> None:
        """From now on, tell this tracer of runs whose command was traced."""
        self._traced = traced

    def committed(self, item: Start | Cancel, entity: str) -> None:
        """A decision of `entity` is durable: start what it asked for, or stop what it cancelled."""
        if self._resting:
            return  # another node finds it in the log or in the table
        match item:
            case Start(id_, row):
                self.opened += 1
                self._offer(id_, row)
                self._fill()
            case Cancel(name):
                for id_ in self._known.of(entity, name):
                    self.cancelled(id_)

    def asked(self, id_: int, row: OpenEffect) -> None:
        """According to the log a decision, of whichever node, has asked for this effect."""
        if not self._resting and (row.kind, row.effect) in self._specs:
            self._offer(id_, row)
            self._fill()

    def divide(self, share: Share) -> None:
        """The effects are divided among nodes, and this is our part."""
        part = self._part
        part.share = share
        for entry in list(self._line.waiting.values()):
            if not part.keeps(entry):
                self._line.remove(entry.id)
                self.forget(entry)
        self.look_again()

    def cancelled(self, id_: int) -> None:
        """An effect is cancelled according to the log: stop its run, or let it not begin."""
        if (entry := self._known.get(id_)) is not None:
            self._cancel(entry)

    async def start(self) -> None:
        """Go on with what an earlier process left. Call once, before serving; if shared, again after `rest`.

        Raises:
            UnknownEffect: an open effect has a name that nothing handles.
            Unavailable, Closed: the log could not be read.
        """
        self._resting = self.draining = False
        self.opened = 0

        def take(id_: int, row: OpenEffect) -> None:
            self.opened += 1
            self._offer(id_, row)

        try:
            await self._each(take)
        except UnknownEffect:
            self.draining = True
            raise
        self._fill()  # not before the last name is known
        every_s = self._bounds.sweep_s
        often = self._shared or self._log.incarnation
        self._tick_s = min(SHARED_SWEEP_S, every_s) if often else every_s
        self._arm()

    async def known(self) -> None:
        """Whether `start` would go on with all that is open now. Raises as `start`."""
        await self._each(lambda _id, _row: None)

    async def _each(self, take: Callable[[int, OpenEffect], None]) -> None:
        before: bytes | None = None
        while rows := await self._log.rows(self._books.table, "", before=before, limit=_PAGE_ROWS):
            for id_, row in self._read(rows):
                if (row.kind, row.effect) not in self._specs:
                    raise UnknownEffect(unknown(row, id_))
                take(id_, row)
            before = rows[-1][0]

    async def drain(self, timeout_s: float) -> None:
        """Begin no more runs, and let those that run come to their end. Those that do not stay open."""
        self.draining = True
        self._stop_timers()
        tasks = {*self._running.values(), *self._ending}
        if tasks and timeout_s > 0:
            await asyncio.wait(tasks, timeout=timeout_s)

    async def close(self, timeout_s: float = 1.0) -> None:
        """Cut short what runs and leave it open: the next start goes on with it. Idempotent."""
        self.draining = True
        self._stop_timers()
        tasks = {*self._running.values(), *self._ending}
        if self._lap is not None:
            tasks.add(self._lap)
        if late := await cancel_all(tasks, timeout_s):
            _log.warning("effects_not_stopped_in_time", effects=late)

    async def rest(self) -> None:
        """Another node has the work: cut short what runs, and know nothing of it any more."""
        self._resting = True
        for id_ in self._running:
            self._part.cuts(id_)
        await self.close()
        for entry in list(self._known.values()):
            self._line.remove(entry.id)
            self.forget(entry)
        self._asleep.clear()
        self._held.clear()
        self._part.rests()
        # A task that was cancelled before it began, and a cancelled timer, could not say so.
        self._lap = self._timer = None

    async def idle(self) -> None:
        """Return when nothing runs and nothing waits."""
        while self._known or self._lap is not None:
            tasks = {*self._running.values(), *self._ending, *({self._lap} if self._lap else ())}
            if tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0 if tasks else 0.05)

    # -- looking through the table

    def _read(self, rows: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[int, OpenEffect]]:
        return (found for key, value in rows if (found := self._books.read(key, value)) is not None)

    async def _look_through(self) -> None:
        """Offer every open effect, the oldest first, as long as there is room."""
        living = self._part.share.running(self._log.living())
        self._held = {id_: by for id_, by in self._held.items() if by in living}
        self._looked_at = self._log.position
        self._refused.clear()
        self._more = False
        before: bytes | None = None
        count, opened = 0, self.opened
        gone = {*self._known, *self._part.begun} if self._shared else set()
        while rows := await self._log.rows(self._books.table, "", before=before, limit=_PAGE_ROWS):
            for id_, row in self._read(rows):
                gone.discard(id_)
                self._offer(id_, row)
                count += 1
            before = rows[-1][0]
            self._fill()
            if self.draining or len(self._line.waiting) >= self._line.waiting_max:
                self._more = True
                return
            await asyncio.sleep(0)
        self._part.leaves(gone)
        for id_ in gone:
            self.cancelled(id_)  # another node decided so
        self.opened += count - opened  # an end whose outcome was unknown is not counted when it happens

    def _must_look(self) -> bool:
        living = self._part.share.running(self._log.living())
        moved = self._part.is_whole or self._looked_at != self._log.position
        return (self._shared and moved) or not living.issuperset(self._held.values())

    def running_of(self, living: frozenset[str]) -> frozenset[str]:
        """Those of these incarnations that keep their runs: they are of nodes that do a part."""
        return self._part.share.running(living)

    def look_again(self) -> None:
        """Look through the table for what does not run: the books may read now what they did not.

        Nothing happens before `start`, which first looks for effects that are not in memory.
        """
        if not (self.draining or self._resting) and self._lap is None:
            self._lap = asyncio.get_running_loop().create_task(self._look(), name="effects in the table")

    def _arm(self) -> None:
        wait_s = self._ambient.routine_s(self._tick_s)
        self._sweeper = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._unswept_s += self._tick_s
        if self._unswept_s >= self._bounds.sweep_s or self._must_look():
            self._unswept_s = 0.0
            self.look_again()
        self._arm()

    async def _look(self) -> None:
        try:
            await self._look_through()
        except EventStoreError as error:
            _log.warning("effects_not_read", error=type(error).__name__)
        finally:
            self._lap = None

    def _offer(self, id_: int, row: OpenEffect) -> None:
        """Take an open effect into memory, where there is room."""
        if id_ in self._known or self.draining or id_ in self._held:
            return
        if id_ in self._running:
            self._offered_meanwhile.add(id_)
            return
        if self._part.is_whole and self._crowded(row):
            return
        spec = self._specs.get((row.kind, row.effect))
        if spec is None:
            return  # another node's newer code asked for it; this node's next version runs it
        job = bytes(row.job)
        group = group_of(spec, job)
        if not self._part.has(id_, spec, group, row.entity):
            return
        if not self._part.is_whole and self._crowded(row):
            return
        wait_ms = row.due_ms - self._ambient.now_ms()
        if wait_ms > 0:  # longer than any back-off: the clock was set back, perhaps by days
            wait_ms = min(wait_ms, round(1000 * backoff_s(spec, row.failures, 1.0)))
        entry = Entry(id_, spec, row, group, job if len(job) <= _JOB_BYTES_KEPT else None)
        self._known.keep(entry)
        if wait_ms > 0:
            self._sleep(entry, wait_ms / 1000)
        else:
            self._stand(entry)

    def _crowded(self, row: OpenEffect) -> bool:
        """Whether it must stay in the table for now: it could run, and too many others wait."""
        if self._line.room(row.user) or row.due_ms > self._ambient.now_ms():
            return False
        self._refused.add(row.user)
        return True

    def _stand(self, entry: Entry) -> None:
        if not self._line.add(entry):
            self._refused.add(entry.user)
            self.forget(entry)

    def _sleep(self, entry: Entry, seconds: float) -> None:
        if len(self._asleep) >= self._bounds.waiting_max:
            self.forget(entry)  # a sweep finds it again
            return
        self._asleep[entry.id] = asyncio.get_running_loop().call_later(seconds, self._wake, entry)

    def _wake(self, entry: Entry) -> None:
        del self._asleep[entry.id]
        if self._part.keeps(entry):
            self._stand(entry)
            self._fill()
        else:
            self.forget(entry)  # meanwhile it is another node's

    def _room_again(self) -> bool:
        """Whether some that found no room would find it now, enough to look through the table for them."""
        line = self._line
        if not (self._refused or self._more) or len(line.waiting) > line.waiting_max // 2:
            return False
        return self._more or any(line.by_user[user] <= line.per_user_max // 2 for user in self._refused)

    # -- running

    def _fill(self) -> None:
        while not self.draining and len(self._running) < self._bounds.at_once:
            match self._line.next(self._wait_s):
                case Entry() as entry:
                    self.by_user[entry.user] += 1
                    self._part.begins(entry.id)
                    task = asyncio.get_running_loop().create_task(
                        self._perform(entry), name=f"effect {entry.id} of {entry.entity}"
                    )
                    self._running[entry.id] = task
                    task.add_done_callback(partial(self._done, entry))
                case None | math.inf:
                    break
                case seconds:
                    if self._timer is None:
                        self._timer = asyncio.get_running_loop().call_later(seconds, self._fill_again)
                    break
        if self._room_again():
            self.look_again()

    def _wait_s(self, user: UserId | None) -> float:
        """How long a user's next run has to wait, without end if one of its own must end first."""
        if user is None:
            return 0.0
        most = self._bounds.at_once_per_user
        return math.inf if most is not None and self.by_user[user] >= most else self._owed_s(user)

    def _fill_again(self) -> None:
        self._timer = None
        self._fill()

    def _done(self, entry: Entry, task: asyncio.Task[None]) -> None:
        del self._running[entry.id]
        self._line.ended(entry)
        self.by_user[entry.user] -= 1
        if not self.by_user[entry.user]:
            del self.by_user[entry.user]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error(
                "effect_crashed", effect=entry.spec.name, entity=entry.entity, error=type(error).__name__
            )
            self.forget(entry)  # a sweep finds it again
        elif entry.cancelled and entry.id in self._known and not self.draining:
            self._cancel(entry)
        if entry.id in self._offered_meanwhile:
            self._offered_meanwhile.discard(entry.id)
            self._more = True
        if not self.draining:
            self._fill()

    def _cancel(self, entry: Entry) -> None:
        entry.cancelled = True
        if (task := self._running.get(entry.id)) is not None:
            if not entry.settling:
                task.cancel()
            return
        self._line.remove(entry.id)
        if (handle := self._asleep.pop(entry.id, None)) is not None:
            handle.cancel()
        task = asyncio.get_running_loop().create_task(self._end_cancelled(entry))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def ended(self, entry: Entry, outcome: str) -> None:
        """Its end is recorded."""
        self.forget(entry)
        self._part.leaves((entry.id,))
        self.opened -= 1
        self.ends[outcome] += 1

    def _left(self, entry: Entry, error: BaseException) -> None:
        """The service itself could not go on with it: try again soon."""
        _log.warning(
            "effect_left_open", effect=entry.spec.name, entity=entry.entity, error=type(error).__name__
        )
        entry.settling = False
        self._part.cuts(entry.id)
        if self.draining:
            self.forget(entry)
        else:
            self._sleep(entry, _LEFT_S)

    async def _perform(self, entry: Entry) -> None:
        """One run from its claim to what is recorded of its end."""
        if self._traced is None or not entry.trace:
            await self._attempt(entry)
            return
        span, outcome = self._traced.run(entry), LEFT
        entry.run = span.place
        try:
            with inside(span):
                outcome = await self._attempt(entry)
        finally:
            span.end(outcome)

    async def _attempt(self, entry: Entry) -> str:
        try:
            async with self._books.hold(entry) as hold:
                return await self._run(entry, hold)
        except RunOver as over:
            if over.why == HELD:
                self._held[entry.id] = over.by  # look again when that incarnation has ended
                self._part.leaves((entry.id,))
                self.forget(entry)
            else:
                await self._over(entry, over.why)
            return over.why
        except LEFT_OPEN as error:
            self._left(entry, error)
            return LEFT

    async def _end_cancelled(self, entry: Entry) -> None:
        """The effect is cancelled, and no run will see to its end."""
        try:
            outcome = await self._books.cancelled(entry)
        except LEFT_OPEN as error:
            self._left(entry, error)
            return
        if outcome is None:
            self.forget(entry)
        else:
            self.ended(entry, outcome)

    async def _run(self, entry: Entry, hold: Hold) -> str:
        spec, raw = entry.spec, entry.job or await self._stored(entry)
        if raw is None:
            self.forget(entry)
            return ENDED
        run = EffectRun(self._log, entry, hold)
        failed: BaseException | None = None
        try:
            run.job = spec.read(raw)
            run.state = await hold.state()
            await spec.handler(run.job, run)
        except LEFT_OPEN:
            if not run.finished:
                run.close(TAKEN_OVER)
                raise
        except RunOver:
            pass  # the books know why
        except asyncio.CancelledError as error:
            if not run.finished and (self.draining or entry.cancelled):
                run.close(CANCELLED)
                raise
            failed = error
        except BaseException as error:  # user code
            if is_cancelled(error):
                raise
            failed = error
        finally:
            entry.settling = True
        if failed is not None and not run.finished:
            return await self._failed(entry, run, hold, raw, failed)
        outcome = DONE
        if not run.finished:
            run.close(ENDED)
            outcome = await hold.end()
        self.ended(entry, outcome)
        return outcome

    async def _stored(self, entry: Entry) -> bytes | None:
        """The arguments of an effect from its row, None if it has none any more."""
        key = self._books.row_key(entry)
        value = await self._log.row(self._books.table, "", key)
        found = None if value is None else self._books.read(key, value)
        return bytes(found[1].job) if found is not None and found[0] == entry.id else None

    async def _failed(
        self, entry: Entry, run: EffectRun, hold: Hold, raw: bytes, error: BaseException
    ) -> str:
        """A run has failed: try again later, or give up."""
        spec, failures, name = entry.spec, run.attempt, type(error).__name__
        _log.warning(
            "effect_failed", effect=spec.name, entity=entry.entity, error=name, at=where(error),
            attempt=failures,
        )  # fmt: skip
        if failures > spec.retries:
            failure = Failure(error_type=name, attempts=failures, job=run.job)
            outcome = await hold.give_up(failure)
            self.ended(entry, outcome)
            return outcome
        run.close(ENDED)
        wait_s = backoff_s(spec, failures, self._ambient.random())
        due_ms = self._ambient.now_ms() + round(wait_s * 1000)
        row = OpenEffect(
            spec.kind, entry.key, spec.name, Raw(raw), entry.since_ms, entry.user, trace=entry.trace
        )
        await hold.again(name, due_ms, row)
        self.retries += 1
        entry.settling = False
        self._sleep(entry, wait_s)
        return AGAIN

    async def _over(self, entry: Entry, why: str) -> None:
        """The run may not speak: the effect was cancelled, has ended, or another run goes on with it."""
        entry.settling = True
        if why == CANCELLED:
            await self._end_cancelled(entry)
        else:
            self.forget(entry)

    def _stop_timers(self) -> None:
        for handle in (self._timer, self._sweeper, *self._asleep.values()):
            if handle is not None:
                handle.cancel()
