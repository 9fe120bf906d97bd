"""The shell: runs open effects as tasks, retries them, and finds again what an earlier process left.

At most a bounded number is in memory (`memory`). When there is room for others, the log's table is looked
through again, the oldest first.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import structlog

from huahuo.actors.effects.attempts import Attempts
from huahuo.actors.effects.books import Books
from huahuo.actors.effects.bounds import Bounds
from huahuo.actors.effects.facts import Cancel, OpenEffect, Start
from huahuo.actors.effects.figures import Figures
from huahuo.actors.effects.line import Entry
from huahuo.actors.effects.spec import Spec
from huahuo.actors.effects.sweeping import Sweeping
from huahuo.actors.effects.traced import TracesRuns
from huahuo.actors.effects.unknown import UnknownEffect, unknown
from huahuo.actors.entities.sharing import Share
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.cancelling import cancel_all
from huahuo.eventstore.port import Log

_log = structlog.get_logger(__name__)

_PAGE_ROWS: Final = 500
"""At most 32 MiB at a time: arguments may have 64 KiB each."""
SHARED_SWEEP_S: Final = 1.0
"""With several nodes: how often each one looks for effects of its part that other nodes asked for, and for
effects of nodes that ended."""
_LEFT_S: Final = 2.0
"""The pause after a run that the service itself cut short."""


class Effects(Figures):
    """See the module. All methods belong to the loop's thread."""

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
        super().__init__(ambient, specs, bounds, claims=claims)
        self._log = log
        self._books = books
        self._attempts = Attempts(log=log, ambient=ambient, books=books, keeper=self)
        self._owed_s = wait_s
        self._ending: set[asyncio.Task[None]] = set()
        self._looked_at = -1
        self._sweeping = Sweeping(ambient, self._look_through, self._must_look)
        self._timer: asyncio.TimerHandle | None = None
        self._shared = self._resting = shared

    def trace(self, traced: TracesRuns) -> None:
        """From now on, tell this tracer of runs whose command was traced."""
        self._attempts.traced = traced

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
        before: bytes | None = None
        while rows := await self._log.rows(self._books.table, "", before=before, limit=_PAGE_ROWS):
            for id_, row in self._read(rows):
                if (row.kind, row.effect) not in self._specs:
                    self.draining = True
                    raise UnknownEffect(unknown(row, id_))
                self.opened += 1
                self._offer(id_, row)
            before = rows[-1][0]
        self._fill()  # not before the last name is known
        every_s = self._bounds.sweep_s
        often = self._shared or self._log.incarnation
        self._sweeping.start(every_s=every_s, tick_s=min(SHARED_SWEEP_S, every_s) if often else every_s)

    async def known(self) -> None:
        """Whether `start` would go on with all that is open now. Raises as `start`."""
        before: bytes | None = None
        while rows := await self._log.rows(self._books.table, "", before=before, limit=_PAGE_ROWS):
            for id_, row in self._read(rows):
                if (row.kind, row.effect) not in self._specs:
                    raise UnknownEffect(unknown(row, id_))
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
        if self._sweeping.lap is not None:
            tasks.add(self._sweeping.lap)
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
        self._sweeping.lap = self._timer = None

    async def idle(self) -> None:
        """Return when nothing runs and nothing waits."""
        while self._known or self._sweeping.lap is not None:
            lap = self._sweeping.lap
            tasks = {*self._running.values(), *self._ending, *({lap} if lap else ())}
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
        if not (self.draining or self._resting):
            self._sweeping.again()

    # -- running

    def _fill(self) -> None:
        while not self.draining and len(self._running) < self._bounds.at_once:
            match self._line.next(self._wait_s):
                case Entry() as entry:
                    self.by_user[entry.user] += 1
                    self._part.begins(entry.id)
                    task = asyncio.get_running_loop().create_task(
                        self._attempts.perform(entry), name=f"effect {entry.id} of {entry.entity}"
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
        task = asyncio.get_running_loop().create_task(self._attempts.cancelled(entry))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def ended(self, entry: Entry, outcome: str) -> None:
        """See `Keeper`."""
        self.forget(entry)
        self._part.leaves((entry.id,))
        self.opened -= 1
        self.ends[outcome] += 1

    def held(self, entry: Entry, by: str) -> None:
        """See `Keeper`."""
        self._held[entry.id] = by
        self._part.leaves((entry.id,))
        self.forget(entry)

    def retry(self, entry: Entry, seconds: float) -> None:
        """See `Keeper`."""
        self.retries += 1
        entry.settling = False
        self._sleep(entry, seconds)

    def left(self, entry: Entry, error: BaseException) -> None:
        """See `Keeper`."""
        _log.warning(
            "effect_left_open", effect=entry.spec.name, entity=entry.entity, error=type(error).__name__
        )
        entry.settling = False
        self._part.cuts(entry.id)
        if self.draining:
            self.forget(entry)
        else:
            self._sleep(entry, _LEFT_S)

    def _stop_timers(self) -> None:
        self._sweeping.stop()
        for handle in (self._timer, *self._asleep.values()):
            if handle is not None:
                handle.cancel()
