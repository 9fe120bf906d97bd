"""The interface that a domain implements for an event-sourced entity: a fold and a pure decision.

    decide(state, command, context) -> Decision      what will happen, as data
    evolve(state, event) -> state                     what happened

The entity shell (`huahuo.actors.entities.entity`) stores the decision's events, evolves, replies, and only
then starts the effects. A refusal is a reply like any other: a value, not an exception.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from huahuo.eventstore.model import CommandKey, CommandRecord, NewEvent, RowDrop, RowPut, SecretPut
from huahuo.replay.history.fold import Fold

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
            huahuo.actors.entities.missing.Missing: something must be read first.
        """
        ...
