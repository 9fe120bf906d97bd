"""Sends the commands of timers when they are due. One timer of the loop, and no task for a timer that waits.

It hears of new timers by the events of each commit and reads the others from the table, the next ones
first. A timer is in the table until the commit of its command, so a crash loses none. A firing that fails
is tried again after a while. Once a minute the table is read again from its beginning if anything was
written, because a signal of the log may be missed, and the wall clock may jump. The firings of one round
share appends where they can (`Rounds`). `Group` and `Fires` are what is asked of entities. A row that was
read was pending at some moment of the reading. If no event of that entity's timers came meanwhile
(`Heard`), it is pending at the present head. Else it was pending at a head from that before the first such
event on, and an entity that knows all changes since then knows whether it still is.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from itertools import batched
from typing import Final, Protocol

import structlog
from msgspec import Struct
from msgspec.structs import replace

from huahuo.actors.entities.decider import EntityError
from huahuo.actors.entities.rendezvous_hash import WHOLE, Share
from huahuo.actors.timers import timer_table
from huahuo.actors.timers.timer import (
    DUE_PART,
    FIRED,
    STREAMS,
    TABLE,
    Due,
    Timer,
    TimerFired,
    TimersCancelled,
    TimerSet,
    decode_event,
    due_key,
    from_row,
    which,
)
from huahuo.actors.timers.window import Retries, Window
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log


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


class Heard:
    """See the module. A lost signal of the log certifies nothing until the next page."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._position = log.position
        self._streams: dict[str, int] = {}
        """The head of each stream before the first event that came."""
        self._whole = False

    def hear(self, events: Sequence[StoredEvent], timers: Sequence[StoredEvent]) -> None:
        """Events of a commit, and those of timers among them."""
        self._whole &= events[0].position == self._position + 1
        self._position = events[-1].position
        streams = self._streams
        for event in timers:
            if event.stream not in streams:
                streams[event.stream] = event.seq - 1

    def begin(self) -> None:
        """A page is read from now on."""
        self._streams.clear()
        self._position = self._log.position
        self._whole = True

    def certified(self, page: list[Due]) -> list[Due]:
        """The timers of the page that came, with the heads at which they are pending, if that is sure."""
        if not self._whole or self._position != self._log.position:
            return page
        head_of, streams = self._log.head, self._streams
        certified: list[Due] = []
        for due in page:
            timer = due[1]
            stream = STREAMS + timer.entity
            head = streams.get(stream) if streams else None
            if head is None:
                head = head_of(stream).seq
            certified.append(due if timer.seq >= head else (due[0], replace(timer, seq=head)))
        return certified


class Group(Protocol):
    """Firings whose commands are decided in the caller's steps and written by one append."""

    @property
    def full(self) -> bool:
        """Whether it should take no more."""
        ...

    def add(self, timer: Timer, command_id: str) -> bool:
        """Have its entity decide the command, if it is in memory, idle and up to date. False: it is not."""
        ...

    def submit(self) -> None:
        """Give all to the log."""
        ...

    async def finish(self) -> bool:
        """Return when they are durable. False: nothing was written: `fire` them. Raises: it is not known."""
        ...

    def give_up(self) -> None:
        """Wait for them no longer."""
        ...


class Fires(Protocol):
    """What is done with a timer that is due."""

    def together(self) -> Group:
        """A group that has no firing yet."""
        ...

    async def load(self, timers: Sequence[Timer]) -> None:
        """Bring their entities into memory, if that is quickly done. Raises: it could not be done."""
        ...

    async def fire(self, timer: Timer) -> None:
        """Have its entity decide the command. It returns when that is durable, or the timer is gone."""
        ...


_LOAD_S: Final = 5.0
_PASS_SHARE: Final = 16
"""A pass that fires less than this part of what is left is the last one."""
_WAITS_MAX: Final = 16
"""How often at most a pass that found every entity busy waits for an append of another round."""
_STRETCH: Final = 128
"""After this many decisions, other work on the loop has its turn."""

type _Members = dict[str, Due]
"""The timers of a group, by the ids of their commands."""


class Rounds:
    """Rounds of due timers: the firings of one round share appends where they can.

    All methods belong to the loop's thread.
    """

    def __init__(self, entities: Fires, clockwork: "Clockwork") -> None:
        self._entities = entities
        self._clockwork = clockwork
        self.deciding: dict[str, Timer] = {}
        """Timers whose decision is in a group that is not finished, by the ids of their commands."""
        self._in_log: set[Group] = set()
        """Groups whose append is on its way."""
        self._landing: asyncio.Future[None] | None = None

    def is_last(self, event: StoredEvent) -> bool:
        """Whether an event is the firing of a timer that is decided here and that is not set again."""
        deciding, command_id = self.deciding, event.command_id
        return command_id in deciding and not deciding[command_id].every_ms

    async def fire(self, timers: list[Due]) -> None:
        """Fire these, those that can be in shared appends.

        First those whose entities can decide now; the other entities are loaded together for that. What is
        left is sent as a message. A slow one holds no place but its own while it is decided.
        """
        others = await self._together(timers)
        if others:
            with contextlib.suppress(EventStoreError, EntityError, TimeoutError):  # a firing meets it again
                async with asyncio.timeout(_LOAD_S):
                    await self._entities.load([timer for _, timer in others])
        left, waits = len(timers) + 1, 0
        while others:
            if len(others) < left:
                left, waits = len(others) - len(others) // _PASS_SHARE, 0
            elif self._in_log and waits < _WAITS_MAX:
                waits += 1  # their entities are in an append of another round
                await self._next_landing()
            else:
                break
            others = await self._together(others)
        if others:
            await asyncio.gather(*(self._one(*due) for due in others))

    async def _together(self, timers: list[Due]) -> list[Due]:
        """Fire all whose entities can decide now, without a task for each. Returns the others in order.

        A timer whose entity has one among the others already is left too: they fire in the order given.
        """
        others: list[Due] = []
        left: set[str] = set()
        groups: deque[tuple[Group, _Members]] = deque()
        try:
            group, members = self._new_group(groups)
            for some in batched(timers, _STRETCH):
                for due in some:
                    timer = due[1]
                    command_id = timer.id
                    if timer.entity in left or not group.add(timer, command_id):
                        others.append(due)
                        left.add(timer.entity)
                        continue
                    members[command_id] = due
                    self.deciding[command_id] = timer
                    if group.full:
                        self._submit(group, members)
                        group, members = self._new_group(groups)
                await asyncio.sleep(0)
            self._submit(group, members)
            unwritten: list[Due] = []
            while groups:
                group, members = groups[0]
                unwritten += await self._finished(group, members)
                groups.popleft()
            if unwritten:
                keys = {key for key, _ in (*others, *unwritten)}
                others = [due for due in timers if due[0] in keys]
        finally:
            for group, members in groups:
                group.give_up()
                self._landed(group)
                self._no_longer(members)
        return others

    def _submit(self, group: Group, members: _Members) -> None:
        group.submit()
        if members:
            self._in_log.add(group)

    def _landed(self, group: Group) -> None:
        self._in_log.discard(group)
        if self._landing is not None:
            self._landing.set_result(None)
            self._landing = None

    async def _next_landing(self) -> None:
        """Return when an append of a group has come to its end."""
        if self._landing is None:
            self._landing = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._landing])

    def _new_group(self, groups: deque[tuple[Group, _Members]]) -> tuple[Group, _Members]:
        groups.append((self._entities.together(), {}))
        return groups[-1]

    async def _finished(self, group: Group, members: _Members) -> Iterable[Due]:
        """Wait for the log. Returns those that were not written."""
        try:
            written = await group.finish()
        except EventStoreError as error:
            for key, timer in members.values():
                self._clockwork.again(timer, key, error)
            self._clockwork.ended(len(members))
            return ()
        finally:
            self._landed(group)
            self._no_longer(members)
        if not written:
            return members.values()
        self._clockwork.done([key for key, _ in members.values()])
        self._clockwork.ended(len(members))
        return ()

    def _no_longer(self, members: _Members) -> None:
        for command_id in members:
            self.deciding.pop(command_id, None)

    async def _one(self, key: bytes, timer: Timer) -> None:
        try:
            await self._entities.fire(timer)
        except Exception as error:  # noqa: BLE001  whatever an application's handler raises
            self._clockwork.again(timer, key, error)
        else:
            self._clockwork.done((key,))
        finally:
            self._clockwork.ended()


_log = structlog.get_logger(__name__)

LOOK_S: Final = 60.0
"""At least this often the wall clock is read and the table compared."""
_STREAMS_CHARS: Final = len(STREAMS)
_ALARM_LEAST_S: Final = 0.001
"""A wait that is lost when it is added to the loop's time would ring again and again at the same moment."""
_PAGE_ROWS: Final = 1_024
"""Timers of one read: the loop takes them up in a few milliseconds."""


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
        self._limits = limits
        self._window = Window(limits.in_memory_max)
        self._busy: dict[bytes, Timer] = {}
        """Timers that are being fired or wait to be tried again, by key."""
        self._retries = Retries(
            count_max=limits.retries_max, first_s=limits.retry_s, longest_s=limits.retry_max_s
        )
        self._rounds = Rounds(entities, self)
        self._running: set[asyncio.Task[None]] = set()
        """Rounds that have begun and not ended."""
        self._firing = 0
        self._reader: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_s = 0.0
        self._winding: asyncio.Handle | None = None
        self._look_at_s = 0.0
        self._read_again_s = 0.0
        self._looked_at = -1
        self._heard = Heard(log)
        self._lost = False
        """A timer was given up until the next look, or a page could not be read."""
        self._forget: Callable[[], None] | None = None
        self._share: Share = WHOLE
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

    async def finish_rebuilding(self) -> None:
        """Make the table anew if that was begun and did not come to its end. One node alone does this."""
        if await timer_table.was_interrupted(self._log):
            await timer_table.rebuild(self._log, now_ms=self._ambient.now_ms())

    def divide(self, share: Share) -> None:
        """Timers are divided among nodes by their entities: begin no firing but of those of this share."""
        self._share = share
        self._window.keep(lambda timer: share.has(timer.entity))
        self._window.start_again()  # also of a page that is on its way
        self._lost = True
        if self._forget is not None:
            self._look()

    async def start(self, commands: Collection[str]) -> None:
        """Begin to fire, also again after `close`. `commands`: those of the application, `<kind>/<name>`.

        Raises:
            UnknownCommand: a pending timer has another one (`known_commands`).
        """
        await timer_table.check(self._log, commands, now_ms=self._ambient.now_ms())
        self._forget = self._log.listen(self._hear)
        self._look()

    async def known(self, commands: Collection[str]) -> None:
        """Whether `start` would begin now. Raises as `start`."""
        await timer_table.without_timers(self._log, commands)

    async def close(self) -> None:
        """Fire no more. What is not decided stays in the table. Idempotent."""
        if self._forget is not None:
            self._forget()
            self._forget = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        tasks = [*self._running, *([] if self._reader is None else [self._reader])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._busy.clear()
        self._retries.clear()
        self._firing = 0
        self._reader = None  # a task that was cancelled before it began could not say so
        self._window.fail_page()
        self._lost = True  # what was cut short is still in the table

    def wake(self) -> None:
        """Look at the wall clock now: it was set."""
        self._wind()

    async def idle(self) -> None:
        """Return when nothing is being fired and nothing in memory is due."""
        while tasks := [*self._running, *([] if self._reader is None else [self._reader])]:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)

    def _hear(self, events: Sequence[StoredEvent]) -> None:
        timers = [event for event in events if event.stream[:_STREAMS_CHARS] == STREAMS]
        self._heard.hear(events, timers)
        is_last = self._rounds.is_last
        told = [event for event in timers if event.type != FIRED or not is_last(event)]
        if not told:
            return  # the end of a firing winds again
        heads = {event.stream: event.seq for event in timers}
        for event in told:
            self._take(event, heads[event.stream])
        self._wind()

    def _take(self, event: StoredEvent, seen: int) -> None:
        entity, window = event.entity, self._window
        match decode_event(event.body):
            case TimerSet() as begun:
                if self._share.has(entity):
                    window.add(begun.timer(entity, seen))
            case TimerFired(name=name, due_ms=due_ms, next_ms=next_ms):
                key = due_key(due_ms, entity, name)
                waiting = window.remove(key)
                timer = self._busy.get(key) or waiting
                if timer is not None and next_ms and self._share.has(entity):
                    window.add(replace(timer, due_ms=next_ms, seq=seen))
                self._lost |= timer is None and self._share.has(entity)
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
        if window.wants_page and self._reader is None and now_s >= self._read_again_s:
            self._reader = self._task(self._read())
        waits_s = [self._look_at_s - now_s]
        free = self._limits.at_once - self._firing
        half = max(1, self._limits.at_once // 2)  # one half is decided while the other is committed
        if free >= half:
            due: list[Due] = []
            retries = self._retries
            while len(due) < half and retries.waiting and (again := retries.pop(now_s)) is not None:
                due.append((again.key, again))
            due += window.pop(now_ms, half - len(due))
            self._busy.update(due)  # now, as a page that is being read may hold them too
            if due:
                self._firing += len(due)
                task = self._task(self._rounds.fire(due))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            due_ms = window.next_due_ms()
            if due_ms is not None and len(due) < half:  # else the end of a firing winds again
                waits_s.append((due_ms - now_ms) / 1000)
            if self._retries.waiting:
                waits_s.append(self._retries.waiting[0][0] - now_s)
        self._set_alarm(max(_ALARM_LEAST_S, min(waits_s)))

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
        self._look_at_s = self._ambient.monotonic_s() + self._ambient.routine_s(LOOK_S)
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
                busy, share = self._busy, self._share
                page = [(key, from_row(key, value)) for key, value in rows if key not in busy]
                if share is not WHOLE:
                    page = [due for due in page if share.has(due[1].entity)]
                window.end_page(self._heard.certified(page), rows[-1][0] if len(rows) == limit else None)
        except EventStoreError as error:
            window.fail_page()
            self._lost = True
            _log.warning("timers_not_read", error=type(error).__name__)
            self._read_again_s = self._ambient.monotonic_s() + self._limits.retry_s
            self._look_at_s = min(self._look_at_s, self._read_again_s)
        finally:
            self._reader = None
        asyncio.get_running_loop().call_soon(self._wind)

    def done(self, keys: Collection[bytes]) -> None:
        """These firings are in the log."""
        self.fired += len(keys)
        busy, retries = self._busy, self._retries
        for key in keys:
            del busy[key]
            if retries.failures:
                retries.succeeded(key)

    def ended(self, firings: int = 1) -> None:
        """These many ended, either way: others may begin."""
        self._firing -= firings
        if self._winding is None:
            self._winding = asyncio.get_running_loop().call_soon(self._wind)

    def again(self, timer: Timer, key: bytes, error: Exception) -> None:
        """It failed: it is tried again after a while."""
        self.failed += 1
        wait_s = self._retries.add(key, timer, self._ambient.monotonic_s())
        if wait_s is None:
            del self._busy[key]
            self._lost = True
            return
        _log.warning(
            "timer_not_fired", id=timer.id, command=timer.command, retry_s=wait_s,
            error=f"{type(error).__name__}: {error}",
        )  # fmt: skip

    @staticmethod
    def _task(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, name="timers")
