"""Commands that idle entities decide in the caller's step, all written by one append: for many, as of timers.

A message costs several steps of the loop and a task, and an append of its own a future, a place in the queue
and its share of every check. Most commands of timers meet an entity that is in memory, idle and up to date.

The append is one: either all its decisions are durable, or none is. Each names its own command on its events.
"""

import asyncio
from asyncio import Future
from collections.abc import Sequence
from itertools import batched
from typing import Any, Final

from huahuo.actors.actor.inbox import Inbox
from huahuo.actors.entities.decider import Context, Decision
from huahuo.actors.entities.entity import Entity
from huahuo.actors.runtime.door import Door
from huahuo.eventstore.errors import Closed, CommandMismatch, Conflict, QueueFull, TooLarge
from huahuo.eventstore.model import Append, Appended, Duplicate, NewEvent, RowDrop, RowPut, StoredEvent
from huahuo.eventstore.port import Log

EVENTS_MAX: Final = 1_024
BYTES_MAX: Final = 256 << 10
"""Above either, the append is full: it shall be one part of a commit, and the loop free in between."""
_A_STEP: Final = 128
"""After as many entities, other work on the loop has its turn."""

type _Part = tuple[Inbox, Entity, Decision[Any, Any]]


class Together:
    """Decisions in the making. Their entities handle no message until `finish` or `give_up`.

    Call `add` for each command, then `submit`, then `finish`. `context` is the moment of all decisions.
    """

    __slots__ = ("_bytes", "_context", "_door", "_events", "_expected", "_log", "_parts", "_principal",
                 "_rows", "_streams", "_written")  # fmt: skip

    def __init__(self, door: Door, log: Log, context: Context, principal: str) -> None:
        self._door = door
        self._log = log
        self._context = context
        self._principal = principal
        self._parts: list[_Part] = []
        self._events: list[NewEvent] = []
        self._rows: list[RowPut | RowDrop] = []
        self._expected: dict[str, int] = {}
        self._streams: set[str] = set()
        """All streams that get an event."""
        self._bytes = 0
        self._written: Future[Appended | Duplicate] | None = None

    @property
    def full(self) -> bool:
        """Whether `submit` should be called now."""
        return len(self._events) >= EVENTS_MAX or self._bytes >= BYTES_MAX

    def add(self, inbox: Inbox, command: object, command_id: str) -> bool:
        """Have an entity decide a command. False: nothing was done, so send it as a message.

        It is busy or behind; the decision needs an append of its own; or there is a fault, which a message
        will tell.
        """
        door = self._door
        entity = door.hold(inbox)
        if entity is None:
            return False
        if entity.__class__ is Entity or isinstance(entity, Entity):  # the class's metaclass is slow to ask
            decision = entity.decide_now(command, self._context)
            if decision is not None and self._join(entity.guard, decision, command_id):
                self._parts.append((inbox, entity, decision))
                return True
        door.let_go(inbox)
        return False

    def _join(self, guard: tuple[str, int] | None, decision: Decision[Any, Any], command_id: str) -> bool:
        if not decision.events or not _is_plain(decision):
            return False
        expected, streams = self._expected, self._streams
        if guard is not None and (guard[0] in streams or guard[0] in expected):
            return False
        for stream in decision.expected:
            if stream in streams or stream in expected:
                return False
        for event in decision.events:  # nothing that another decision counts on
            if event.stream in expected:
                return False
        if guard is not None:
            expected[guard[0]] = guard[1]
        expected.update(decision.expected)
        for event in decision.events:
            streams.add(event.stream)
            self._bytes += len(event.body)
            if not event.command_id:
                event = NewEvent(  # noqa: PLW2901  the same, with the id of its command
                    event.stream, event.type, event.body, event.version, event.entity, command_id
                )
            self._events.append(event)
        self._rows += decision.rows
        return True

    def submit(self) -> None:
        """Give all decisions to the log."""
        if not self._parts:
            return
        append = Append(
            ts_ms=self._context.now_ms,
            events=tuple(self._events),
            expected=self._expected,
            principal=self._principal,
            rows=tuple(self._rows),
        )
        try:
            self._written = self._log.submit(append)
        except (TooLarge, QueueFull, Closed, ValueError):
            self._let_go(self._parts)
            self._parts = []

    async def finish(self) -> bool:
        """Wait for the log, and let the entities go on. False: nothing was written, so send messages.

        Raises:
            Unavailable: the outcome is unknown.
        """
        written = self._written
        if written is None:
            return not self._parts and not self._events
        try:
            outcome = await written
        except (Conflict, CommandMismatch, TooLarge, QueueFull, Closed):
            self._let_go(self._parts)
            self._parts = []
            return False
        except BaseException:
            self.give_up()
            raise
        assert isinstance(outcome, Appended), "without a command record there is no duplicate"
        await self._take(outcome.events)
        return True

    def give_up(self) -> None:
        """Wait no longer: the outcome of what is left stays unknown."""
        for _, entity, _ in self._parts:
            entity.forget()
        self._let_go(self._parts)
        self._parts = []

    async def _take(self, events: Sequence[StoredEvent]) -> None:
        at = done = 0
        try:
            for some in batched(self._parts, _A_STEP):
                for inbox, entity, decision in some:
                    following = at + len(decision.events)
                    entity.finish(decision, events[at:following])
                    self._door.let_go(inbox)
                    at = following
                    done += 1
                if done < len(self._parts):
                    await asyncio.sleep(0)
        finally:
            self._parts = self._parts[done:]
            self.give_up()

    def _let_go(self, parts: Sequence[_Part]) -> None:
        for inbox, _, _ in parts:
            self._door.let_go(inbox)


def _is_plain(decision: Decision[Any, Any]) -> bool:
    """Whether it holds nothing but events, rows and effects."""
    return not (
        decision.blobs or decision.drop_blobs or decision.secrets or decision.drop_secrets or decision.shred
    )


def load(door: Door, inbox: Inbox, events: Sequence[StoredEvent]) -> None:
    """Give an entity that was just started its whole stream, which was read for it."""
    entity = door.hold(inbox)
    if entity is None:
        return
    if isinstance(entity, Entity):
        entity.load_from(events)
    door.let_go(inbox)
