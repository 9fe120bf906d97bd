"""What the log holds of effects: events on `effect/<kind>/<key>`, and a row for each one that is open. Pure.

The events are the truth. The rows only say which effects are open, so that a start need not read all
streams. A row is written and removed in the commit of the event that opens or ends its effect.

An open effect that today's code does not handle.
"""

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.model import NewEvent, RowDrop, RowPut, StoredEvent

KIND: Final = "effect"
"""The first part of the streams, and the kind of the entities that keep books of them."""
TABLE: Final = "effect"
COUNTER: Final = "effect"
"""The log's counter of effects: their ids are unique in the log."""
_ID_MAX: Final = (1 << 63) - 1

DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"


class _Fact(Struct, frozen=True, tag_field="type"):
    timestamp: str


class Requested(_Fact, frozen=True, tag="effect_requested"):
    """A decision asked for an effect. `user`: whose command it was."""

    id: int
    effect: str
    job: Raw
    user: UserId | UnsetType = UNSET


class Claimed(_Fact, frozen=True, tag="effect_claimed"):
    """A run begins. Its place in the stream names the run; earlier runs of this effect are over.

    `by`: the incarnation that runs it, where several nodes share the log.
    """

    id: int
    by: str | UnsetType = UNSET


class Failed(_Fact, frozen=True, tag="effect_failed"):
    """A run raised. The next one begins at `due_ms`."""

    id: int
    failures: int
    error_type: str
    due_ms: int


class CancelAsked(_Fact, frozen=True, tag="effects_cancelled"):
    """The entity wants its open effects (of one name) ended. Each of them then gets an end of its own."""

    effect: str | None = None


class Ended(_Fact, frozen=True, tag="effect_ended"):
    """The one end of an effect: `done`, `failed` or `cancelled`."""

    id: int
    outcome: str
    error_type: str = ""


type Fact = Requested | Claimed | Failed | CancelAsked | Ended

REQUESTED: Final = "effect_requested"
CANCEL_ASKED: Final = "effects_cancelled"
TYPES: Final = frozenset(
    {"effect_requested", "effect_claimed", "effect_failed", "effects_cancelled", "effect_ended"}
)


class OpenEffect(Struct, frozen=True, omit_defaults=True):
    """The row of an open effect: all that a run needs."""

    kind: str
    key: str
    effect: str
    job: Raw
    since_ms: int
    user: UserId | None = None
    failures: int = 0
    due_ms: int = 0
    trace: str = ""
    """The place in a trace of the command that asked for it (`huahuo.actors.plugins.calls`)."""
    seq: int = 0
    """What came behind it in the stream of effects is all that a run must read. The row has the rest."""
    position: int = 0
    """That of the event which asked for it, 0 if that is behind `seq`."""

    @property
    def entity(self) -> str:
        """The entity's own stream."""
        return f"{self.kind}/{self.key}"


class Start(Struct, frozen=True):
    """For the runner, after the commit: this effect is open now."""

    id: int
    row: OpenEffect


class Cancel(Struct, frozen=True):
    """For the runner, after the commit: the entity's effects (of this name) are cancelled."""

    effect: str | None


class Guard(Struct, frozen=True):
    """What a run adds to an append of its entity: the books still stand at `seq`, where they name this run.

    `events` and `rows` are written with it.
    """

    stream: str
    seq: int
    events: tuple[NewEvent, ...] = ()
    rows: tuple[RowPut | RowDrop, ...] = ()


def requested_in(event: StoredEvent, trace: str) -> tuple[int, OpenEffect]:
    """The effect that an event asks for, and its row but for its place in a trace, which is `trace`."""
    fact = _decode_requested(event.body)
    kind, _, key = event.entity.partition("/")
    user = None if fact.user is UNSET else fact.user
    row = OpenEffect(kind, key, fact.effect, fact.job, event.ts_ms, user, trace=trace)
    return fact.id, msgspec.structs.replace(row, seq=event.seq, position=event.position)


def cancelled_in(event: StoredEvent) -> str | None:
    """The name of the effects that an event cancels, None for all of its entity."""
    return _decode_cancel(event.body).effect


def stream_of(entity: str) -> str:
    """The stream of an entity's effects."""
    return f"{KIND}/{entity}"


def event(entity: str, fact: Fact) -> NewEvent:
    """A fact as an event of the log."""
    tag: Any = type(fact).__struct_config__.tag
    return NewEvent(stream_of(entity), tag, msgspec.json.encode(fact), entity=entity)


def request(id_: int, row: OpenEffect, timestamp: str) -> tuple[NewEvent, RowPut]:
    """A new effect: its event and its row."""
    user = UNSET if row.user is None else row.user
    return event(row.entity, Requested(timestamp, id_, row.effect, row.job, user)), put(id_, row)


def cancel(entity: str, effect: str | None, timestamp: str) -> NewEvent:
    """The wish of an entity that its effects end."""
    return event(entity, CancelAsked(timestamp, effect))


def end(entity: str, fact: Ended) -> tuple[NewEvent, RowDrop]:
    """The end of an effect: its event, and its row gone."""
    return event(entity, fact), drop(fact.id)


def put(id_: int, row: OpenEffect) -> RowPut:
    """Write the row of an open effect."""
    return RowPut(TABLE, "", row_key(id_), msgspec.json.encode(row))


def drop(id_: int) -> RowDrop:
    """Remove the row of an effect that has ended."""
    return RowDrop(TABLE, "", row_key(id_))


def row_key(id_: int) -> bytes:
    """The key of its row. The log reads rows in descending order, and the oldest effect shall come first."""
    return (_ID_MAX - id_).to_bytes(8, "big")


def id_of(key: bytes) -> int:
    """The id that `row_key` was made from."""
    return _ID_MAX - int.from_bytes(key, "big")


_decode_row = msgspec.json.Decoder(OpenEffect).decode
_decode_requested = msgspec.json.Decoder(Requested).decode
_decode_cancel = msgspec.json.Decoder(CancelAsked).decode


def read_row(value: bytes) -> OpenEffect:
    """The row that `put` wrote."""
    return _decode_row(value)


class UnknownEffect(ValueError):  # noqa: N818  a refusal to start
    """Open effects have a name that today's code does not know."""


def unknown(row: OpenEffect, id_: int) -> str:
    """What to say of it, for people."""
    return (
        f"the effect {row.effect!r} of {row.entity} (number {id_}) is open, and nothing handles it: bring"
        f" back the class and its @{row.kind}.effect, or name= the new class {row.effect!r}"
    )
