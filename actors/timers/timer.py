"""A timer, its rows and events, and what one decision does to the timers of its entity. Pure.

The table `timers` has two parts. Part "" holds every pending timer, sorted by due time, so those that are
due lie side by side. The part `commands` holds which commands timers were ever set for, so a start checks
their names without reading all timers. The events of `timer/<kind>/<key>` say what an entity has pending
(`PendingTimers`), and the table can be made anew from them. Rows by entity would cost a page of the disk
for each firing. Each append of a decision expects the head of `timer/<kind>/<key>`, and only the entity
writes that stream. So the rows that a decision replaces are those that it knows, and a due time fires at
most once: a second firing finds another head or no such timer. What is known at one head is known at the
next one, together with what the decision in between has changed (`Known`). Most firings need no more.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from huahuo.actors.entities.decider import Decision
from huahuo.eventstore.model import NewEvent, RowDrop, RowPut, StoredEvent

TABLE: Final = "timers"
DUE_PART: Final = ""
COMMANDS_PART: Final = "commands"
FIRED: Final = "timer_fired"
STREAMS: Final = "timer/"
"""The internal stream of an entity's timers is this and the entity's name."""
DUE_BYTES: Final = 8
"""A key begins with the due time, which has this many bytes."""


class Timer(Struct, frozen=True, gc=False, order=True):
    """`command` (its stored name) with `fields` (its JSON) is sent to `entity` at `due_ms`.

    `every_ms`: the interval of an `Every`, 0 for an `After`. `seq`: the head of the entity's timers after the
    decision that set it. As long as that is the head, it is certainly pending. `trace`: the place in a
    trace of the command that set it (`huahuo.actors.plugins.calls`).
    """

    entity: str
    name: str
    due_ms: int
    command: str
    fields: bytes
    every_ms: int = 0
    seq: int = 0
    trace: str = ""

    @property
    def key(self) -> bytes:
        """Its place among all pending timers."""
        return self.due_ms.to_bytes(DUE_BYTES) + f"{self.entity}\0{self.name}".encode()  # `due_key`

    @property
    def id(self) -> str:
        """The id of the command that it sends. No other firing has it."""
        return f"timer/{self.entity}/{self.name}/{self.due_ms}"

    @property
    def kind(self) -> str:
        """The kind of its entity."""
        return self.entity.partition("/")[0]

    def puts(self) -> Iterator[RowPut]:
        """The rows of a pending timer."""
        traced = (self.trace,) if self.trace else ()
        value = msgspec.json.encode((self.command, self.every_ms, self.seq, Raw(self.fields), *traced))
        yield RowPut(TABLE, DUE_PART, self.key, value)
        yield RowPut(TABLE, COMMANDS_PART, f"{self.kind}/{self.command}".encode(), b"")


type Due = tuple[bytes, Timer]
"""A timer with its key."""


class TimerSet(Struct, frozen=True, tag_field="type", tag="timer_set"):
    """A timer begins, and replaces one of the same name."""

    timestamp: str
    name: str
    command: str
    fields: Raw
    due_ms: int
    every_ms: int = 0
    trace: str | UnsetType = UNSET

    def timer(self, entity: str, seq: int) -> Timer:
        """The timer of this event, set by a decision after which the head of the timers is `seq`."""
        return Timer(
            entity,
            self.name,
            self.due_ms,
            self.command,
            bytes(self.fields),
            self.every_ms,
            seq,
            self.trace or "",
        )


class TimerFired(Struct, frozen=True, tag_field="type", tag=FIRED):
    """The command was decided. `next_ms`: when an `Every` is due again, 0 for an `After`."""

    timestamp: str
    name: str
    due_ms: int
    next_ms: int = 0
    trace: str | UnsetType = UNSET


class TimersCancelled(Struct, frozen=True, tag_field="type", tag="timers_cancelled"):
    """The entity ended these timers."""

    timestamp: str
    names: list[str]


type TimerEvent = TimerSet | TimerFired | TimersCancelled

TYPES: Final[dict[type, str]] = {
    TimerSet: "timer_set", TimerFired: FIRED, TimersCancelled: "timers_cancelled",
}  # fmt: skip
"""Their stored names, which are their tags."""

decode_event: Final = msgspec.json.Decoder(TimerEvent).decode


class _Value(Struct, frozen=True, array_like=True):
    """What the row of a pending timer holds besides its key. Only a traced one has the last."""

    command: str
    every_ms: int
    seq: int
    fields: Raw
    trace: str = ""


_decode_value: Final = msgspec.json.Decoder(_Value).decode


def series_of(event: StoredEvent) -> str:
    """Of the firings of one timer only the newest says something: compaction may remove the others."""
    if event.type != FIRED or not event.stream.startswith(STREAMS):
        return ""
    return msgspec.json.decode(event.body, type=TimerFired).name


def drop(entity: str, name: str, due_ms: int) -> RowDrop:
    """The end of a pending timer's row."""
    return RowDrop(TABLE, DUE_PART, due_key(due_ms, entity, name))


def due_key(due_ms: int, entity: str, name: str) -> bytes:
    """The key of a pending timer: its due time, then who and which."""
    return due_ms.to_bytes(DUE_BYTES) + f"{entity}\0{name}".encode()


def which(key: bytes) -> bytes:
    """The part of a pending timer's key that says who and which, without when."""
    return key[DUE_BYTES:]


def from_row(key: bytes, value: bytes) -> Timer:
    """The timer of a row of all pending ones."""
    entity, _, name = key[DUE_BYTES:].decode().partition("\0")
    held = _decode_value(value)
    due_ms = int.from_bytes(key[:DUE_BYTES])
    return Timer(entity, name, due_ms, held.command, bytes(held.fields), held.every_ms, held.seq, held.trace)


_decode: Final = msgspec.msgpack.Decoder(dict[str, Timer]).decode


class PendingTimers:
    """A `Fold` of `timer/<kind>/<key>`: the entity's pending timers by name."""

    name = "timers"
    fingerprint = "1"

    def initial(self, stream: str) -> dict[str, Timer]:
        """See `Fold`."""
        del stream
        return {}

    def evolve(self, state: dict[str, Timer], event: StoredEvent) -> dict[str, Timer]:
        """See `Fold`. The same object comes back."""
        match decode_event(event.body):
            case TimerSet() as begun:
                state[begun.name] = begun.timer(event.stream.removeprefix(STREAMS), event.seq)
            case TimerFired(name=name, next_ms=next_ms):
                timer = state.pop(name, None)
                if timer is not None and next_ms:
                    state[name] = replace(timer, due_ms=next_ms, seq=event.seq)
            case TimersCancelled(names=names):
                for name in names:
                    state.pop(name, None)
        return state

    def dump(self, state: dict[str, Timer]) -> bytes:
        """See `Fold`."""
        return msgspec.msgpack.encode(state)

    def load(self, stream: str, data: bytes) -> dict[str, Timer]:
        """See `Fold`."""
        del stream
        return _decode(data)


_ENDED = 0
_CHANGES_MAX = 256
"""An entity that is not known whole remembers as many changes. Older certificates then count no more."""


class Known:
    """Of each name that is known: when that timer is due, or that none is pending.

    Invariant: `_dues` holds what is pending at `_head` if `_whole`, else all changes after `_since`.
    """

    __slots__ = ("_dues", "_head", "_next", "_since", "_whole")

    def __init__(self) -> None:
        self._head = self._since = 0
        self._dues: dict[str, int] = {}
        self._whole = True  # no stream of timers, no timers
        self._next: tuple[int, Mapping[str, int]] | None = None

    def move(self, head: int) -> None:
        """The timers are at this head now. What was known of another head is forgotten."""
        expected, self._next = self._next, None
        if expected is not None and expected[0] == head:
            self._head = head
            for name, due_ms in expected[1].items():
                if due_ms or not self._whole:
                    self._dues[name] = due_ms
                else:
                    self._dues.pop(name, None)
        if self._head != head or (not self._whole and len(self._dues) > _CHANGES_MAX):
            self._head = self._since = head
            self._dues, self._whole = {}, False

    @property
    def names(self) -> frozenset[str] | None:
        """The names of all pending timers, None if they must be read."""
        return frozenset(self._dues) if self._whole else None

    def due_ms(self, name: str) -> int | None:
        """When the timer of this name is due, 0 if none is pending, None if that must be read."""
        return self._dues.get(name, _ENDED if self._whole else None)

    def pending(self, name: str, due_ms: int, seq: int) -> bool | None:
        """Whether a timer with this due time at this head is still pending, None if not known."""
        if name in self._dues:
            return self._dues[name] == due_ms
        if self._whole:
            return False
        return True if self._since <= seq <= self._head else None

    def expect(self, head: int, changes: Mapping[str, int]) -> None:
        """What becomes of some timers (0: they end) once the head is this one: when a decision is written."""
        self._next = (head, changes)

    def learn(self, head: int, dues: Mapping[str, int]) -> None:
        """What was read at this head: all pending timers."""
        self._head, self._dues, self._whole, self._next = head, dict(dues), True, None


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
    """What one decision does to the timers of its entity. `head` is that of `stream`, the entity's timers.

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
