"""The interface that a domain implements for an event-sourced entity: a fold and a pure decision.

    decide(state, command, context) -> Decision      what will happen, as data
    evolve(state, event) -> state                     what happened

The entity (`huahuo.actors.entities.entity`) stores the decision's events, evolves, replies, and only then
starts the effects. `append_of` and `answer_of` translate a decision into an append and the outcome into an
answer; they are pure. A refusal is a reply like any other.

EntityError
+- Busy        the inbox is full, or others changed the same streams too often: try again
+- Degraded    the entity failed repeatedly and does not run for a while
If no answer comes in time, `AskTimeout` is raised. The outcome is unknown: ask again with the same id.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from huahuo.eventstore.model import (
    Append,
    Appended,
    CommandKey,
    CommandRecord,
    NewEvent,
    RowDrop,
    RowPut,
    SecretPut,
)
from huahuo.replay.history.subject import Fold


class EntityError(Exception):
    """Base of the errors that `Directory` itself raises."""


class Busy(EntityError):  # noqa: N818  the word of the wire protocol
    """Nothing was done; the same message may be sent again later."""


class Degraded(EntityError):  # noqa: N818
    """The entity cannot be loaded, or fails with the loaded state. Nothing was done."""


_EMPTY: Mapping[str, int] = MappingProxyType({})


class Context(msgspec.Struct, frozen=True):
    """The inputs of a decision besides the state. All time, ids and chance come from here.

    `now_ms` and `timestamp` are the same moment. `take` returns durable numbers of a named counter (see
    `Log.take`). `head` returns a stream's present head; the state is at least as new as every head it
    returns. `command_id` is stored with the decision's events; where many commands share an append it is "".
    """

    now_ms: int
    timestamp: str
    take: Callable[[str, int], int]
    head: Callable[[str], int]
    command_id: str = ""


class Origin(msgspec.Struct, frozen=True):
    """The source of a command, stored with every event of the decision.

    If the command has a client's id, so that its answer must be kept, `key` is set. `fingerprint` is the
    keyed hash of the command's content.
    """

    principal: str
    command_id: str = ""
    key: CommandKey | None = None
    fingerprint: bytes = b""
    cause: int = 0


class Decision[R, E](msgspec.Struct, frozen=True, kw_only=True):
    """What will happen. The events are written in one append together with the command's record.

    `reply` answers the asker. `record` is that answer as the JSON object to keep for repeats (None: it is not
    kept). `at_stream` is the stream whose last event is the reply's position. `effects` are started after the
    commit. `expected` adds expectations on other entities' internal streams. After a conflict there or on
    its own stream, the entity catches up and decides again.
    """

    reply: R
    record: bytes | None = None
    at_stream: str = ""
    events: tuple[NewEvent, ...] = ()
    effects: tuple[E, ...] = ()
    expected: Mapping[str, int] = _EMPTY
    rows: tuple[RowPut | RowDrop, ...] = ()
    blobs: tuple[bytes, ...] = ()
    drop_blobs: tuple[str, ...] = ()
    secrets: tuple[SecretPut, ...] = ()
    drop_secrets: tuple[tuple[str, str], ...] = ()
    shred: tuple[str, ...] = ()
    owner: str = ""
    """See `Append`."""
    after: Any = None
    """What `Kind.adopt` takes, if the decider knows the state after its events. None: they are folded."""


class Answer[R](msgspec.Struct, frozen=True):
    """An entity's answer to an ask.

    A first execution has `reply` and the position of its `at_stream` (None: it appended nothing there). A
    repeat has the stored record in `duplicate` and no reply.
    """

    reply: R | None
    at: tuple[str, int] | None = None
    position: int = 0
    duplicate: CommandRecord | None = None


class Decider[S, C, R, E](Fold[S], Protocol):
    """A fold over the entity's stream, and its decisions."""

    @property
    def guarded(self) -> bool:
        """Whether every append expects the head of the entity's own stream to be that of the state.

        True if only the entity and its owner write its stream (`mailbox/<id>`). False if many write it
        (`user/<id>`); the decisions then name their expectations.
        """
        ...

    def decide(self, state: S, command: C, context: Context) -> Decision[R, E]:
        """Decide about a command. Pure: must not change `state`.

        Raises:
            huahuo.actors.entities.entity.Missing: something must be read first.
        """
        ...


def writes(decision: Decision[Any, Any], origin: Origin) -> bool:
    """Whether the decision writes anything to the log."""
    return bool(
        decision.events
        or (origin.key is not None and decision.record is not None)
        or decision.rows
        or decision.blobs
        or decision.drop_blobs
        or decision.secrets
        or decision.drop_secrets
        or decision.shred
    )


def append_of(decision: Decision[Any, Any], origin: Origin, now_ms: int, guard: Mapping[str, int]) -> Append:
    """The one append of a decision. `guard` is added to the decision's own expectations."""
    record = None
    if origin.key is not None and decision.record is not None:
        record = CommandRecord(origin.key, origin.fingerprint, decision.record, decision.at_stream)
    return Append(
        ts_ms=now_ms,
        events=decision.events,
        expected={**decision.expected, **guard},
        command=record,
        principal=origin.principal,
        command_id=origin.command_id,
        cause=origin.cause,
        rows=decision.rows,
        blobs=decision.blobs,
        drop_blobs=decision.drop_blobs,
        secrets=decision.secrets,
        drop_secrets=decision.drop_secrets,
        shred=decision.shred,
        owner=decision.owner,
    )


def answer_of(decision: Decision[Any, Any], outcome: Appended) -> Answer[Any]:
    """The answer to a first execution."""
    seq = outcome.seq_of(decision.at_stream)
    return Answer(
        reply=decision.reply,
        at=(decision.at_stream, seq) if seq else None,
        position=outcome.position,
    )


def repeated(record: CommandRecord) -> Answer[Any]:
    """The answer to a command that was executed before."""
    at = (record.at_stream, record.at_seq) if record.at_stream and record.at_seq else None
    return Answer(reply=None, at=at, duplicate=record)
