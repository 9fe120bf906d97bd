"""A timer, its rows in the table and its events in the log. Pure.

The table `timers` has two parts. Part "" holds every pending timer, sorted by due time, so those that are due
lie side by side. The part `commands` holds which commands timers were ever set for, so that a start can
check their names without reading all timers.

The events of `timer/<kind>/<key>` say what an entity has pending (`pending`), and the table can be made anew
from them (`rebuilding`). Rows by entity would cost a page of the disk for each firing.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from huahuo.eventstore.model import RowDrop, RowPut, StoredEvent

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
    trace of the command that set it (`huahuo.actors.plugins.traceparent`).
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
