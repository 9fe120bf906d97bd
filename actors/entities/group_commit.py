"""Commands that idle entities decide in the caller's step, written by one append: many, as those of timers.

A message costs several steps of the loop and a task, and an append of its own a future, a place in the
queue and its share of every check. Most commands of timers meet an entity that is in memory, idle and up
to date.

The append is one: either all its decisions are durable, or none is. Each names its own command on its
events.

An entity may decide several commands of one append: each on the state after the one before, which it takes
over at once (`Entity.advance`). Nobody sees that state before the append is durable, as the entity is held.
If nothing was written, the state is dropped and loaded again.
"""

import asyncio
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from itertools import batched
from typing import Any, Final

from msgspec.structs import replace

from huahuo.actors.actor.inbox import Inbox
from huahuo.actors.actor.runtime import Runtime
from huahuo.actors.entities.decider import Context, Decision
from huahuo.actors.entities.entity import Entity
from huahuo.eventstore.errors import Closed, CommandMismatch, Conflict, QueueFull, TooLarge
from huahuo.eventstore.model import Append, Appended, Duplicate, NewEvent, RowDrop, RowPut, StoredEvent
from huahuo.eventstore.port import Log

EVENTS_MAX: Final = 1_024
BYTES_MAX: Final = 256 << 10
"""Above either, the append is full: it shall be one part of a commit, and the loop free in between."""
_A_STEP: Final = 128
"""After as many entities, other work on the loop has its turn."""

type _Part = tuple[Entity, Decision[Any, Any], slice, slice, bool]
"""The places of its events among those on own streams, and among the others; and whether the entity has taken
over the state after it."""


class Together:
    """Decisions in the making. Their entities handle no message until `finish` or `give_up`.

    Call `add` for each command, then `submit`, then `finish`. `context` is the moment of all decisions.
    """

    __slots__ = (
        "_bytes", "_context", "_door", "_expected", "_heads", "_held", "_log", "_others", "_own", "_owners",
        "_principal", "_rows", "_unfinished", "_written", "full",
    )  # fmt: skip

    def __init__(self, door: Runtime, log: Log, context: Context, principal: str) -> None:
        self._door = door
        self._log = log
        self._heads: dict[str, int] = {}
        """Of all streams that get an event: the seq after what was decided so far."""
        self._context = replace(context, head=_heads_after(self._heads, log))
        self._principal = principal
        self._unfinished: list[_Part] = []
        """Decisions about which their entities learn more than that they are durable. Of the others nothing
        is kept: an append has hundreds, and the collector would look at each part of them."""
        self._own: list[NewEvent] = []
        """Events on the streams of their own entities, which come first in the append."""
        self._others: list[NewEvent] = []
        """All others, such as the firings of timers. An engine writes a run of events of one type faster."""
        self.full = False
        """Whether `submit` should be called now."""
        self._rows: list[RowPut | RowDrop] = []
        self._expected: dict[str, int] = {}
        self._owners: dict[str, Entity] = {}
        """Of all streams whose heads are expected: whose decisions count on them."""
        self._held: dict[Inbox, Entity] = {}
        self._bytes = 0
        self._written: Future[Appended | Duplicate] | None = None

    def add(self, inbox: Inbox, command: object, command_id: str) -> bool:
        """Have an entity decide a command. False: nothing was done, so send it as a message.

        It is busy or behind; the decision needs an append of its own; or there is a fault, which a message
        will tell.
        """
        door = self._door
        entity: Any
        fresh = inbox not in self._held
        if fresh:
            entity = door.hold(inbox)
            if entity is None:
                return False
        else:
            entity = self._held[inbox]
        decide_now = getattr(entity, "decide_now", None)  # `isinstance` would ask the class's metaclass
        if decide_now is not None:
            decision = decide_now(command, self._context)
            own, others = len(self._own), len(self._others)
            if decision is not None and self._join(entity, decision, command_id):
                if fresh:
                    self._held[inbox] = entity
                advanced = entity.advance(decision)
                if decision.effects or not advanced:
                    places = slice(own, len(self._own)), slice(others, len(self._others))
                    self._unfinished.append((entity, decision, *places, advanced))
                return True
        if fresh:
            door.let_go(inbox)
        return False

    def _join(self, entity: Entity, decision: Decision[Any, Any], command_id: str) -> bool:
        events = decision.events
        if not events or not _is_plain(decision):
            return False
        guard, owners, heads = entity.guard, self._owners, self._heads
        expects = decision.expected if guard is None else {guard[0]: guard[1], **decision.expected}
        for stream in expects:  # one that no decision of this append writes may be expected by many
            if stream in heads and owners.get(stream) is not entity:
                return False
        for event in events:  # nothing that another decision counts on
            if owners.get(event.stream, entity) is not entity:
                return False
        for stream in expects:
            if stream not in owners:  # else it is the head after a decision of this append
                owners[stream] = entity
                self._expected[stream] = expects[stream]
        own, others, size = self._own, self._others, 0
        guarded = "" if guard is None else guard[0]
        for event in events:
            stream = event.stream
            if stream in heads:
                heads[stream] += 1
            else:
                heads[stream] = (expects[stream] if stream in expects else self._context.head(stream)) + 1
            size += len(event.body)
            (own if stream == guarded else others).append(
                event if event.command_id else _caused(event, command_id)
            )
        self._bytes += size
        self.full = len(own) + len(others) >= EVENTS_MAX or self._bytes >= BYTES_MAX
        self._rows += decision.rows
        return True

    def submit(self) -> None:
        """Give all decisions to the log."""
        if not (self._own or self._others):
            return
        append = Append(
            ts_ms=self._context.now_ms,
            events=(*self._own, *self._others),
            expected=self._expected,
            principal=self._principal,
            rows=tuple(self._rows),
        )
        try:
            self._written = self._log.submit(append)
        except (TooLarge, QueueFull, Closed, ValueError):
            self.give_up()

    async def finish(self) -> bool:
        """Wait for the log, and let the entities go on. False: nothing was written, so send messages.

        Raises:
            Unavailable: the outcome is unknown.
        """
        written = self._written
        if written is None:
            return not (self._own or self._others)
        try:
            outcome = await written
        except (Conflict, CommandMismatch, TooLarge, QueueFull, Closed):
            self.give_up()
            return False
        except BaseException:
            self.give_up()
            raise
        assert isinstance(outcome, Appended), "without a command record there is no duplicate"
        await self._take(outcome.events)
        return True

    def give_up(self) -> None:
        """Wait no longer: the outcome of what is left stays unknown, or nothing of it was written."""
        for inbox, entity in self._held.items():
            entity.forget()
            self._door.let_go(inbox)
        self._held.clear()
        self._unfinished.clear()

    async def _take(self, events: Sequence[StoredEvent]) -> None:
        done, count = 0, len(self._own)
        try:
            for some in batched(self._unfinished, _A_STEP):
                for entity, decision, own, others, advanced in some:
                    foreign = events[count + others.start : count + others.stop]
                    written = (*events[own], *foreign)
                    entity.finish(decision, written, advanced=advanced)
                done += len(some)
                if done < len(self._unfinished):
                    await asyncio.sleep(0)
            for entity in self._held.values():
                entity.settle()
            self._door.let_go_all(self._held)
            self._held.clear()
        finally:
            self.give_up()


def _heads_after(heads: Mapping[str, int], log: Log) -> Callable[[str], int]:
    """A function that says the head of a stream as it is after what was decided for an append."""
    durable = log.head

    def head(stream: str) -> int:
        return heads[stream] if stream in heads else durable(stream).seq

    return head


def _caused(event: NewEvent, command_id: str) -> NewEvent:
    """The event with the id of its command."""
    return NewEvent(event.stream, event.type, event.body, event.version, event.entity, command_id)


def _is_plain(decision: Decision[Any, Any]) -> bool:
    """Whether it holds nothing but events, rows and effects."""
    return not (
        decision.blobs or decision.drop_blobs or decision.secrets or decision.drop_secrets or decision.shred
    )


def load(door: Runtime, inbox: Inbox, events: Sequence[StoredEvent]) -> None:
    """Give an entity that was just started its whole stream, which was read for it."""
    entity = door.hold(inbox)
    if entity is None:
        return
    if isinstance(entity, Entity):
        entity.load_from(events)
    door.let_go(inbox)
