"""The interface between a domain and the transport: commands, queries and snapshots.

The transport handles the protocol's own actions (authenticate, subscribe, ack, …). A domain registers all
other commands and queries here, each with the type of its message and a handler.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from huahuo.eventstore.model import CommandKey, CommandRecord
from huahuo.transport.access.principal import Principal
from huahuo.transport.protocol.parts import Parted


class Call[P](msgspec.Struct, frozen=True):
    """One command or query of an authenticated client, its fields decoded and checked.

    `key` is set if the client gave an `id`, which is unique for the user and client (or session).
    `command_id` is stored with the events that the call causes: the client's id, or one made by the session.
    """

    principal: Principal
    session: str
    action: str
    params: P
    command_id: str
    key: CommandKey | None = None
    fingerprint: bytes = b""


class Reply(msgspec.Struct, frozen=True):
    """The answer to a call: `body` is the JSON object with its `type`, without `id` and `at`.

    `recorded`: the handler has stored it in the log together with its events, under `call.key`.
    `parted` (queries only): the real answer, which may be long; `body` then holds only its `type`.
    """

    body: bytes
    at: tuple[str, int] | None = None
    recorded: bool = False
    duplicate: bool = False
    parted: Parted | None = None


BUSY_RETRY_S: Final = 1.0
"""The default `retry_s` of a `busy` refusal."""


class Refusal(msgspec.Struct, frozen=True):
    """A refusal as a value: becomes an `error` message with a code of PROTOCOL 6."""

    code: str
    message: str
    details: str = ""
    retry_s: float | None = None
    """With `busy`: seconds after which a retry may succeed."""


type Handler = Callable[[Call[Any]], Awaitable[Reply]]
"""Answers one call. A refusal is a Reply made by `error_reply`; an exception becomes `internal`."""

type SnapshotOf = Callable[[str], Awaitable[tuple[int, bytes | Parted]]]
"""(seq, state as a JSON object) of a stream, for PROTOCOL 4's `snapshot`."""


class CommandSpec(msgspec.Struct, frozen=True):
    """One registered action. `query`: it is executed again for a repeated id and never recorded.

    `compressible`: its replies may be compressed. Only for replies without secrets: when a secret is
    compressed together with text that an attacker chose, the length reveals it (CRIME).
    """

    action: str
    params: type
    handler: Handler
    query: bool = False
    admin: bool = False
    compressible: bool = False


class Registry:
    """The actions, snapshots and event types of the domains. Filled before the server starts."""

    def __init__(self) -> None:
        self.commands: dict[str, CommandSpec] = {}
        self.snapshots: dict[str, SnapshotOf] = {}
        self.event_types: set[str] = set()

    def command(self, spec: CommandSpec) -> None:
        """Register an action. Raises ValueError if it is taken."""
        if spec.action in self.commands:
            raise ValueError(f"the action {spec.action!r} is registered already")
        self.commands[spec.action] = spec

    def snapshot(self, kind: str, of: SnapshotOf) -> None:
        """Register the source of snapshots for streams of one kind (`user`, `group`, `system`, `log`)."""
        self.snapshots[kind] = of

    def events(self, *types: str) -> None:
        """Reserve the domain's event types: `publish` refuses them."""
        self.event_types.update(types)


class Commands(Protocol):
    """The part of the command gate that the connection uses."""

    async def execute(self, call: Call[Any], spec: CommandSpec) -> Reply:
        """Answer a call. A command id has at most one effect, and a repeat gets the same answer."""
        ...


def error_reply(refusal: Refusal) -> Reply:
    """The `error` message of PROTOCOL 6 for a refusal, without the request's id."""
    body: dict[str, object] = {"type": "error", "code": refusal.code, "message": refusal.message}
    if refusal.details:
        body["details"] = refusal.details
    if refusal.retry_s is not None:
        body["retry_s"] = refusal.retry_s
    return Reply(body=msgspec.json.encode(body))


def json_reply(body: Mapping[str, object], at: tuple[str, int] | None = None) -> Reply:
    """A reply that is not recorded, from a mapping that has a `type`."""
    return Reply(body=msgspec.json.encode(body), at=at)


def from_record(record: CommandRecord) -> Reply:
    """The stored answer of a repeated command."""
    at = (record.at_stream, record.at_seq) if record.at_stream and record.at_seq else None
    return Reply(body=record.reply, at=at, recorded=True, duplicate=True)
