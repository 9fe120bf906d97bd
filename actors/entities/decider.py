"""What a domain supplies for an event-sourced entity: a fold and a pure decision.

    decide(state, command, context) -> Decision      what shall happen, as data
    evolve(state, event) -> state                     what happened

The entity shell (`huahuo.actors.entities.entity`) persists the decision's events, evolves, replies, and only
then starts the effects. A refusal is a reply like any other: a value, not an exception.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import msgspec

from huahuo.eventstore.model import CommandKey, CommandRecord, NewEvent, RowDrop, RowPut, SecretPut
from huahuo.replay.history.fold import Fold

_EMPTY: Mapping[str, int] = MappingProxyType({})


class Context(msgspec.Struct, frozen=True):
    """What a decision may know beside the state: all time, ids and chance come in here.

    `now_ms` and `timestamp` are the same moment; `take` hands out durable numbers of a named
    counter (see `Log.take`); `head` tells where a stream stands at this moment, and the state is at
    least as new as every head it returns.
    """

    now_ms: int
    timestamp: str
    take: Callable[[str, int], int]
    head: Callable[[str], int]


class Origin(msgspec.Struct, frozen=True):
    """Who asked: written on every event of the decision.

    `key` is set when the command carries a client's id and its answer must be kept; `fingerprint`
    is the keyed hash of its content.
    """

    principal: str
    command_id: str = ""
    key: CommandKey | None = None
    fingerprint: bytes = b""
    cause: int = 0


class Decision[R, E](msgspec.Struct, frozen=True, kw_only=True):
    """What shall happen: written in one append together with the command's record.

    `reply` answers the asker; `record` is that answer as the JSON object to keep for a repeat
    (None: not kept), `at_stream` the stream whose last event is the reply's position. `effects` are
    started after the commit. `expected` adds expectations on other entities' internal streams; a
    conflict there or on the entity's own stream makes the entity catch up and decide again.
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


class Answer[R](msgspec.Struct, frozen=True):
    """What an entity answers to an ask.

    A first execution carries `reply` and the position of its `at_stream` (None: appended nothing
    there); a repeat carries the stored `duplicate` record instead of a reply.
    """

    reply: R | None
    at: tuple[str, int] | None = None
    position: int = 0
    duplicate: CommandRecord | None = None


class Decider[S, C, R, E](Fold[S], Protocol):
    """A fold over the entity's stream plus its decisions."""

    @property
    def guarded(self) -> bool:
        """Whether every append expects the entity's own stream to stand where the state does.

        True for an entity whose stream only it and its owner write (`mailbox/<id>`); False for one
        whose stream many write (`user/<id>`), which then names its expectations itself.
        """
        ...

    def decide(self, state: S, command: C, context: Context) -> Decision[R, E]:
        """Pure. Must not change `state`."""
        ...
