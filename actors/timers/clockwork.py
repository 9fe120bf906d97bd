"""Sends the commands of timers when they are due. One timer of the loop, and no task for a timer that waits.

It hears of new timers by the events of each commit and reads the others from the table, the next ones first.
A timer is in the table until the commit of its command, so a crash loses none. A firing that fails is tried
again after a while. Once a minute the table is read again from its beginning if anything was written, because
a signal of the log may be missed, and the wall clock may jump.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from heapq import heappop, heappush
from itertools import batched
from typing import Final, Protocol

import structlog
from msgspec import Struct
from msgspec.structs import replace

from huahuo.actors.entities.errors import EntityError
from huahuo.actors.timers import rebuilding
from huahuo.actors.timers.heard import Heard
from huahuo.actors.timers.timer import (
    COMMANDS_PART,
    DUE_PART,
    STREAMS,
    TABLE,
    Timer,
    TimerFired,
    TimersCancelled,
    TimerSet,
    decode_event,
    due_key,
    from_row,
    which,
)
from huahuo.actors.timers.window import Window
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, RowDrop, StoredEvent
from huahuo.eventstore.port import Log

_log = structlog.get_logger(__name__)

LOOK_S: Final = 60.0
"""At least this often the wall clock is read and the table compared."""
_CHECK_ROWS: Final = 10_000
_LOAD_S: Final = 1.0
_STRETCH: Final = 128
"""After as many decisions, other work on the loop has its turn."""
_PAGE_ROWS: Final = 1_024
"""Timers of one read: the loop takes them up in a few milliseconds."""


class Firing(Protocol):
    """A firing whose command is decided and given to the log."""

    async def finish(self) -> bool:
        """Return when it is durable. False: nothing was written, `fire` it. Raises: that is not known."""
        ...

    def give_up(self) -> None:
        """Wait for it no longer."""
        ...


class Fires(Protocol):
    """What is done with a timer that is due."""

    def begin(self, timer: Timer) -> Firing | None:
        """Have its entity decide the command in this call, if it is in memory, idle and up to date."""
        ...

    async def load(self, timers: Sequence[Timer]) -> None:
        """Bring their entities into memory, if that is quickly done. Raises: it could not be done."""
        ...

    async def fire(self, timer: Timer) -> None:
        """Have its entity decide the command. It returns when that is durable, or the timer is gone."""
        ...


class UnknownCommand(ValueError):  # noqa: N818  a refusal to start
    """There are timers of a command that the application does not have. The text names it."""


class Limits(Struct, frozen=True):
    """The bounds of a clockwork."""

    in_memory_max: int = 8_192
    """Timers that are read ahead; up to twice as many may lie there."""
    at_once: int = 2_048
    """Commands that are decided at the same time."""
    retries_max: int = 1_024
    """Failed firings that wait; others are found again by the look at the table."""
    retry_s: float = 1.0
    retry_max_s: float = 300.0


class Clockwork:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self,
        log: Log,
        ambient: Ambient,
        entities: Fires,
        limits: Limits = Limits(),  # noqa: B008  frozen
    ) -> None:
        self._log = log
        self._ambient = ambient
        self._entities = entities
        self._limits = limits
        self._window = Window(limits.in_memory_max)
        self._busy: dict[bytes, Timer] = {}
        """Timers that are being fired or wait to be tried again, by key."""
        self._retries: list[tuple[float, Timer]] = []
        self._failures: dict[bytes, int] = {}
        self._rounds: set[asyncio.Task[None]] = set()
        self._firing = 0
        self._reader: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_s = 0.0
        self._winding: asyncio.Handle | None = None
        self._look_at_s = 0.0
        self._looked_at = -1
        self._heard = Heard(log)
        self._lost = False
        """A timer was given up until the next look, or a page could not be read."""
        self._forget: Callable[[], None] | None = None
        self.fired = 0
        self.failed = 0

    @property
    def in_memory(self) -> int:
        """Timers that lie in memory."""
        return len(self._window) + len(self._busy)

    @property
    def late_s(self) -> float:
        """How long the first timer that should have fired has been due."""
        due_ms = self._window.next_due_ms()
        return 0.0 if due_ms is None else max(0.0, (self._ambient.now_ms() - due_ms) / 1000)

    async def start(self, commands: Collection[str]) -> None:
        """Begin to fire. `commands`: what the application has, as `<kind>/<stored name>`.

        Raises:
            UnknownCommand: a pending timer has another one.
        """
        if await rebuilding.was_interrupted(self._log):
            await rebuilding.rebuild(self._log, now_ms=self._ambient.now_ms())
        await self._check(commands)
        self._forget = self._log.listen(self._hear)
        self._look()

    async def close(self) -> None:
        """Fire no more. What is not decided stays in the table. Idempotent."""
        if self._forget is not None:
            self._forget()
            self._forget = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        tasks = [*self._rounds, *([] if self._reader is None else [self._reader])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Look at the wall clock now: it was set."""
        self._wind()

    async def idle(self) -> None:
        """Return when nothing is being fired and nothing in memory is due."""
        while tasks := [*self._rounds, *([] if self._reader is None else [self._reader])]:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)

    async def _check(self, commands: Collection[str]) -> None:
        after, unknown = b"", set[str]()
        while rows := await self._log.rows(TABLE, COMMANDS_PART, after=after, limit=_CHECK_ROWS):
            unknown.update({key.decode() for key, _ in rows}.difference(commands))
            after = rows[-1][0]
        if not unknown:
            return
        after = b""
        while rows := await self._log.rows(TABLE, DUE_PART, after=after, limit=_CHECK_ROWS):
            for timer in (from_row(*row) for row in rows):
                if f"{timer.kind}/{timer.command}" in unknown:
                    raise UnknownCommand(
                        f"a timer of {timer.entity} will send the command {timer.command!r}, and no decide of"
                        f" {timer.kind!r} handles a command of this name: write it, or name="
                        f"{timer.command!r} at the class that took its place"
                    )
            after = rows[-1][0]
        gone = tuple(RowDrop(TABLE, COMMANDS_PART, name.encode()) for name in sorted(unknown))
        await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=gone))

    def _hear(self, events: Sequence[StoredEvent]) -> None:
        timers = [event for event in events if event.stream.startswith(STREAMS)]
        self._heard.hear(events, timers)
        if not timers:
            return
        heads = {event.stream: event.seq for event in timers}
        for event in timers:
            self._take(event, heads[event.stream])
        self._wind()

    def _take(self, event: StoredEvent, seen: int) -> None:
        entity, window = event.entity, self._window
        match decode_event(event.body):
            case TimerSet() as begun:
                window.add(begun.timer(entity, seen))
            case TimerFired(name=name, due_ms=due_ms, next_ms=next_ms):
                key = due_key(due_ms, entity, name)
                window.remove(key)
                timer = self._busy.get(key)
                if timer is not None and next_ms:
                    window.add(replace(timer, due_ms=next_ms, seq=seen))
                self._lost |= timer is None
            case TimersCancelled(names=names):
                for name in names:
                    window.remove_named(which(due_key(0, entity, name)))

    def _wind(self) -> None:
        """Fire what is due, read what comes next, and set the alarm for the first of the rest."""
        self._winding = None
        if self._forget is None:
            return
        now_ms, now_s = self._ambient.now_ms(), self._ambient.monotonic_s()
        window = self._window
        if window.wants_page and self._reader is None:
            self._reader = self._task(self._read())
        waits_s = [self._look_at_s - now_s]
        free = self._limits.at_once - self._firing
        half = max(1, self._limits.at_once // 2)  # one half is decided while the other is committed
        if free >= half:
            due: list[Timer] = []
            while len(due) < half and (timer := self._next()) is not None:
                self._busy[timer.key] = timer  # now, as a page that is being read may hold it too
                due.append(timer)
            if due:
                self._firing += len(due)
                task = self._task(self._round(due))
                self._rounds.add(task)
                task.add_done_callback(self._rounds.discard)
            due_ms = window.next_due_ms()
            if due_ms is not None and len(due) < half:  # else the end of a firing winds again
                waits_s.append((due_ms - now_ms) / 1000)
            if self._retries:
                waits_s.append(self._retries[0][0] - now_s)
        self._set_alarm(max(0.0, min(waits_s)))

    def _set_alarm(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        when_s = loop.time() + wait_s
        if self._alarm is not None:
            if self._alarm_s <= when_s:
                return  # it rings early, and is then set again
            self._alarm.cancel()
        self._alarm_s = when_s
        self._alarm = loop.call_at(when_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._ambient.monotonic_s() >= self._look_at_s:
            self._look()
        else:
            self._wind()

    def _look(self) -> None:
        self._look_at_s = self._ambient.monotonic_s() + LOOK_S
        if (self._lost or self._log.position != self._looked_at) and not self._window.reading:
            self._lost = False
            self._looked_at = self._log.position
            self._window.start_again()
        self._wind()

    async def _read(self) -> None:
        window, log = self._window, self._log
        limit = min(_PAGE_ROWS, self._limits.in_memory_max)
        try:
            while window.wants_page:
                after = window.begin_page()
                self._heard.begin()
                rows = await log.rows(TABLE, DUE_PART, after=after, limit=limit)
                page = [
                    self._heard.certified(timer)
                    for timer in (from_row(*row) for row in rows)
                    if timer.key not in self._busy
                ]
                window.end_page(page, rows[-1][0] if len(rows) == limit else None)
        except EventStoreError as error:
            window.fail_page()
            self._lost = True
            _log.warning("timers_not_read", error=type(error).__name__)
            self._look_at_s = min(self._look_at_s, self._ambient.monotonic_s() + self._limits.retry_s)
        finally:
            self._reader = None
        asyncio.get_running_loop().call_soon(self._wind)

    async def _round(self, timers: list[Timer]) -> None:
        """Fire these together, so that one commit takes many.

        First those whose entities can decide at once; the other entities are loaded together for that. Each
        that is left is sent as a message. A slow one holds no place but its own while it is decided.
        """
        others = await self._at_once(timers)
        if others:
            with contextlib.suppress(EventStoreError, EntityError, TimeoutError):  # a firing meets it again
                async with asyncio.timeout(_LOAD_S):
                    await self._entities.load(others)
            others = await self._at_once(others)
        if others:
            await asyncio.gather(*(self._one(timer) for timer in others))

    async def _at_once(self, timers: Iterable[Timer]) -> list[Timer]:
        """Fire all whose entities can decide at once, without a task for each. Returns the others."""
        others: list[Timer] = []
        begun: deque[tuple[Timer, Firing]] = deque()
        try:
            for some in batched(timers, _STRETCH):
                for timer in some:
                    firing = self._entities.begin(timer)
                    if firing is None:
                        others.append(timer)
                    else:
                        begun.append((timer, firing))
                await asyncio.sleep(0)
            count = 0
            while begun:
                timer, firing = begun.popleft()
                try:
                    written = await firing.finish()
                except EventStoreError as error:
                    self._again(timer, timer.key, error)
                    self._ended()
                else:
                    if written:
                        self._done(timer)
                        self._ended()
                    else:
                        others.append(timer)
                count += 1
                if not count % _STRETCH:
                    await asyncio.sleep(0)
        finally:
            for _, firing in begun:
                firing.give_up()
        return others

    async def _one(self, timer: Timer) -> None:
        try:
            await self._entities.fire(timer)
        except Exception as error:  # noqa: BLE001  whatever an application's handler raises
            self._again(timer, timer.key, error)
        else:
            self._done(timer)
        finally:
            self._ended()

    def _done(self, timer: Timer) -> None:
        key = timer.key
        self.fired += 1
        del self._busy[key]
        if self._failures:
            self._failures.pop(key, None)

    def _ended(self) -> None:
        self._firing -= 1
        if self._winding is None:
            self._winding = asyncio.get_running_loop().call_soon(self._wind)

    def _next(self) -> Timer | None:
        if self._retries and self._retries[0][0] <= self._ambient.monotonic_s():
            return heappop(self._retries)[1]
        return self._window.pop(self._ambient.now_ms())

    def _again(self, timer: Timer, key: bytes, error: Exception) -> None:
        self.failed += 1
        limits = self._limits
        if len(self._retries) >= limits.retries_max:
            del self._busy[key]
            self._failures.pop(key, None)
            self._lost = True
            return
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait_s = min(limits.retry_max_s, limits.retry_s * 2.0 ** min(failures - 1, 20))
        _log.warning(
            "timer_not_fired", id=timer.id, command=timer.command, retry_s=wait_s,
            error=f"{type(error).__name__}: {error}",
        )  # fmt: skip
        heappush(self._retries, (self._ambient.monotonic_s() + wait_s, timer))

    @staticmethod
    def _task(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, name="timers")
