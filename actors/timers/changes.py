"""What one decision does to the timers of its entity. Pure.

Each of its appends expects the head of `timer/<kind>/<key>`, and only the entity writes that stream. So the
rows that a decision replaces are those that it knows, and a due time fires at most once: a second firing
finds another head or no such timer.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import UNSET, Raw

from huahuo.actors.entities.decider import Decision
from huahuo.actors.timers.known import Known
from huahuo.actors.timers.timer import (
    DUE_PART,
    FIRED,
    TABLE,
    TYPES,
    Timer,
    TimerEvent,
    TimerFired,
    TimersCancelled,
    TimerSet,
    drop,
)
from huahuo.eventstore.model import NewEvent, RowDrop, RowPut

_encode = msgspec.json.Encoder().encode
_MIN_MS = 1
"""A timer is due after the decision that sets it, so that no two of one name have one due time."""
_UNTOUCHED: Final[dict[str, Timer | None]] = {}
"""Never written to."""

type Facts = tuple[tuple[NewEvent, ...], tuple[RowPut | RowDrop, ...], Mapping[str, int]]
"""Events, rows and the head that the append expects."""


class NotKnown(Exception):  # noqa: N818  a request, not a fault
    """The pending timers of the entity must be read first (`missing`)."""


class Changes:
    """See the module. `head` is that of `stream`, the entity's timers.

    A firing alone, which most decisions of timers are, makes neither list nor table of its own.

    Raises:
        NotKnown: from any method, the timers that it would replace must be read first.
    """

    __slots__ = ("_after", "_command_id", "_entity", "_events", "_fired", "_head", "_known", "_now_ms",
                 "_stream", "_timestamp", "trace")  # fmt: skip

    def __init__(
        self, entity: str, stream: str, known: Known, head: int, now_ms: int, timestamp: str, trace: str = "",
        command_id: str = "",
    ) -> None:  # fmt: skip
        """`trace`: the place in a trace of what the decision is about, carried by each timer that it sets.

        `command_id`: that of the decision, for the events of a firing: its append may be shared.
        """
        self._entity = entity
        self._stream = stream
        self._known = known
        self._head = head
        self._now_ms = now_ms
        self._timestamp = timestamp
        self.trace = trace
        self._command_id = command_id
        known.move(head)
        self._fired: Timer | None = None
        self._events: list[TimerEvent] | None = None
        """What follows the firing, None as long as nothing does."""
        self._after: dict[str, Timer | None] = _UNTOUCHED
        """By name, what becomes of the timers that this decision touches; None: it ends."""

    def fire(self, timer: Timer) -> bool:
        """The decision is that of this timer. False: it was replaced or ended, or fired already.

        Call it first.
        """
        pending = self._known.pending(timer.name, timer.due_ms, timer.seq)
        if pending is None:
            raise NotKnown
        if pending:
            self._fired = timer
        return pending

    def set(self, name: str, command: str, fields: bytes, delay_ms: int, *, every: bool) -> None:
        """Begin a timer, in place of one of the same name."""
        self._due_before(name)
        events = self._following()
        delay_ms = max(_MIN_MS, delay_ms)
        due_ms = self._now_ms + delay_ms
        if self._fired is not None and self._fired.name == name:
            due_ms = max(due_ms, self._fired.due_ms + _MIN_MS)  # the clock may have gone back
        timer = Timer(self._entity, name, due_ms, command, fields, delay_ms if every else 0, trace=self.trace)
        self._after[name] = timer
        events.append(
            TimerSet(self._timestamp, name, command, Raw(fields), due_ms, timer.every_ms, self.trace or UNSET)
        )

    def cancel(self) -> None:
        """End all timers of the entity."""
        before = self._known.names
        if before is None:
            raise NotKnown
        events = self._following()
        names = {*before, *self._after} - {name for name, timer in self._after.items() if timer is None}
        if names:
            self._after.update(dict.fromkeys(names))
            events.append(TimersCancelled(self._timestamp, sorted(names)))

    def only_the_firing(self) -> None:
        """The decision is a refusal: nothing is set or ended, and the firing stands."""
        self._events, self._after = None, _UNTOUCHED

    def facts(self) -> Facts | None:
        """What the commit of the decision has of all this. None: nothing."""
        fired = self._fired
        if self._events:
            return self._many(self._events)
        if fired is None:
            return None
        name, seq = fired.name, self._head + 1
        rows: tuple[RowPut | RowDrop, ...] = (RowDrop(TABLE, DUE_PART, fired.key),)
        next_ms = 0
        if fired.every_ms:
            following = self._moved(fired, seq)
            next_ms = following.due_ms
            rows += tuple(following.puts())
        self._known.expect(seq, {name: next_ms})
        body = _encode(TimerFired(self._timestamp, name, fired.due_ms, next_ms, fired.trace or UNSET))
        event = NewEvent(self._stream, FIRED, body, 1, self._entity, self._command_id)
        return (event,), rows, {self._stream: self._head}

    def into[R, E](self, decision: Decision[R, E]) -> Decision[R, E]:
        """The decision with all of this in the same commit."""
        facts = self.facts()
        if facts is None:
            return decision
        events, rows, expected = facts
        return msgspec.structs.replace(
            decision,
            events=(*decision.events, *events),
            rows=(*decision.rows, *rows),
            expected={**decision.expected, **expected},
        )

    def _many(self, following: list[TimerEvent]) -> Facts:
        fired, entity = self._fired, self._entity
        events = following if fired is None else [self._firing(fired), *following]
        seq = self._head + len(events)
        dues: dict[str, int] = {}
        rows: list[RowPut | RowDrop] = []
        for name, timer in self._after.items():
            before_ms = self._due_before(name)
            if before_ms:
                rows.append(drop(entity, name, before_ms))
            if timer is None:
                dues[name] = 0
            else:
                dues[name] = timer.due_ms
                rows += msgspec.structs.replace(timer, seq=seq).puts()
        self._known.expect(seq, dues)
        return tuple(map(self._new, events)), tuple(rows), {self._stream: self._head}

    def _new(self, event: TimerEvent) -> NewEvent:
        command_id = "" if self._fired is None else self._command_id
        return NewEvent(self._stream, TYPES[type(event)], _encode(event), 1, self._entity, command_id)

    def _following(self) -> list[TimerEvent]:
        """The events after the firing, of which there will be some."""
        if self._events is None:
            self._events, self._after = [], {}
            fired = self._fired
            if fired is not None:
                self._after[fired.name] = self._moved(fired, 0) if fired.every_ms else None
        return self._events

    def _firing(self, timer: Timer) -> TimerFired:
        next_ms = self._next_ms(timer) if timer.every_ms else 0
        return TimerFired(self._timestamp, timer.name, timer.due_ms, next_ms, timer.trace or UNSET)

    def _moved(self, timer: Timer, seq: int) -> Timer:
        """An `Every` at its next time."""
        return msgspec.structs.replace(timer, due_ms=self._next_ms(timer), seq=seq)

    def _next_ms(self, timer: Timer) -> int:
        return max(self._now_ms, timer.due_ms) + timer.every_ms

    def _due_before(self, name: str) -> int:
        """The due time of the pending timer of this name before this decision, 0 if there is none."""
        if self._fired is not None and self._fired.name == name:
            return self._fired.due_ms
        due_ms = self._known.due_ms(name)
        if due_ms is None:
            raise NotKnown
        return due_ms
