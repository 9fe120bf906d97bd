"""How the domain's events are written to the log, and read again. Pure."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.model import NewEvent, StoredEvent
from huahuo.mailcheck.events import INTERNAL, PUBLIC, Body, RosterChanged, type_name
from huahuo.mailcheck.streams import mailbox_stream, roster_stream, user_stream

_READERS: Final[Mapping[str, Callable[[bytes], Body]]] = {
    type_name(body): msgspec.json.Decoder(body).decode for body in (*PUBLIC, *INTERNAL)
}
"""By type. One lookup, because every fold reads every event through it."""


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
    return NewEvent(stream, type_name(type(body)), msgspec.json.encode(body), entity=entity)


def read(event: StoredEvent) -> Body | None:
    """The typed body of an event of this domain, None for any other event.

    Raises:
        ValueError: the stored body does not have the form of its type.
    """
    decode = _READERS.get(event.type)
    return None if decode is None else decode(event.body)
