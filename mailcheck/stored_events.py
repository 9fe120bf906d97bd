"""How the domain's events are written to the log, and read again in the current version of their type. Pure.

If old code could not read a new body, or new code an old one, the type's version rises. One function in
`UPCASTS` then converts bodies of the version before.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.model import NewEvent, StoredEvent
from huahuo.mailcheck.events import (
    INTERNAL,
    INTERNAL_TYPES,
    PUBLIC,
    PUBLIC_TYPES,
    Body,
    RosterChanged,
    type_name,
)
from huahuo.mailcheck.streams import mailbox_stream, roster_stream, user_stream

VERSIONS: Final[Mapping[str, int]] = MappingProxyType(
    dict.fromkeys(PUBLIC_TYPES | INTERNAL_TYPES, 1) | {"cursor_moved": 2}
)
"""The current version of each type, in which new events are written."""

type Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""Converts the fields of a body of version n to version n + 1."""

UPCASTS: Final[Mapping[tuple[str, int], Upcast]] = MappingProxyType(
    {("cursor_moved", 1): lambda fields: fields}
)
"""By (type, n): the conversion from version n to n + 1."""

_READERS: Final[Mapping[str, tuple[int, Callable[[bytes], Body]]]] = {
    type_name(body): (VERSIONS[type_name(body)], msgspec.json.Decoder(body).decode)
    for body in (*PUBLIC, *INTERNAL)
}
"""By type: current version and decoder. One lookup, because every fold reads every event through it."""


def public(user_id: UserId, email_id: int, body: Body) -> NewEvent:
    """`body` as an event on the user's stream, about the mailbox `email_id`."""
    return _event(user_stream(user_id), mailbox_stream(email_id), body)


def internal(email_id: int, body: Body) -> NewEvent:
    """`body` as a fact on the mailbox's own stream."""
    stream = mailbox_stream(email_id)
    return _event(stream, stream, body)


def of_roster(user_id: UserId, body: Body) -> NewEvent:
    """`body` as a fact on the roster's own stream, whose head it moves."""
    stream = roster_stream(user_id)
    return _event(stream, stream, body)


def guarding(user_id: UserId, timestamp: str) -> NewEvent:
    """The event by which a change moves the head of the roster's stream."""
    return of_roster(user_id, RosterChanged(timestamp=timestamp))


def _event(stream: str, entity: str, body: Body) -> NewEvent:
    name = type_name(type(body))
    return NewEvent(
        stream=stream,
        type=name,
        body=msgspec.json.encode(body),
        version=VERSIONS[name],
        entity=entity,
    )


def upcast(
    event: StoredEvent,
    versions: Mapping[str, int] = VERSIONS,
    steps: Mapping[tuple[str, int], Upcast] = UPCASTS,
) -> StoredEvent:
    """`event` in the current version of its type, as readers and frames show it.

    Events of other domains, of the current version and of newer versions are returned unchanged.

    Raises:
        KeyError: a step between the stored version and the current one is missing.
        ValueError: the stored body is not a JSON object.
    """
    today = versions.get(event.type, event.version)
    if event.version >= today:
        return event
    fields = msgspec.json.decode(event.body, type=dict[str, Any])
    for version in range(event.version, today):
        fields = steps[event.type, version](fields)
    return msgspec.structs.replace(event, body=msgspec.json.encode(fields), version=today)


def read(event: StoredEvent) -> Body | None:
    """The typed body of an event of this domain in the current version, None for any other event.

    Raises:
        ValueError: the stored body does not have the form of its type.
    """
    known = _READERS.get(event.type)
    if known is None:
        return None
    today, decode = known
    return decode(event.body if event.version >= today else upcast(event).body)
