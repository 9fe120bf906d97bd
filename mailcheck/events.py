"""What happened to a mailbox: the stored names, versions and bodies of the domain's events. Pure.

Public events stand on `user/<id>` exactly as they go over the wire (PROTOCOL 4.1); internal facts
stand on `mailbox/<id>`. Names are our own strings, never Python import paths, and a body holds no
password, token or key: only the name under which a secret is sealed.

A body's version rises when its fields change in a way that an old reader or an old body would not
understand; the step from the version before is then one function in `UPCASTS`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from huahuo.eventstore.model import NewEvent, StoredEvent

STATUSES_TERMINAL: Final = frozenset({"ok", "error", "need_reauth", "cancelled"})
STATUSES_BUSY: Final = frozenset({"queued", "processing"})
PROGRESS_MAX: Final = 100


def user_stream(user_id: int) -> str:
    """The public stream of a user."""
    return f"user/{user_id}"


def mailbox_stream(email_id: int) -> str:
    """The internal stream of a mailbox, also its name as an entity and as an owner of secrets."""
    return f"mailbox/{email_id}"


def id_of(stream: str) -> int:
    """The number in a stream's name: 42 of `user/42`. Raises ValueError if there is none."""
    return int(stream.partition("/")[2])


class Body(msgspec.Struct, frozen=True, gc=False, tag_field="type", kw_only=True):
    """The JSON object of an event: its `type` first, its `timestamp` among the fields."""

    timestamp: str


class EmailAdded(Body, tag="email_added", frozen=True, gc=False, kw_only=True):
    """A mailbox came to a user."""

    email_id: int
    email: str
    mail_type: str
    server: str
    port: int
    use_ssl: bool


class EmailUpdated(Body, tag="email_updated", frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Public fields that changed; none if only a secret did."""

    email_id: int
    mail_type: str | UnsetType = UNSET
    server: str | UnsetType = UNSET
    port: int | UnsetType = UNSET
    use_ssl: bool | UnsetType = UNSET


class EmailDeleted(Body, tag="email_deleted", frozen=True, gc=False, kw_only=True):
    """A mailbox and all that was kept of it are gone."""

    email_id: int


class EmailStatusUpdate(Body, tag="email_status_update", frozen=True, gc=False, kw_only=True):
    """A check changed its state: `queued`, `processing` or a terminal status."""

    email_id: int
    status: str
    message: str
    check_id: int


class CheckProgress(Body, tag="check_progress", frozen=True, gc=False, kw_only=True):
    """How far a check is, 0 to 100; within one check it never decreases."""

    email_id: int
    progress: int
    message: str
    check_id: int


class MailReceived(Body, tag="mail_received", frozen=True, gc=False, kw_only=True):
    """A mail was found that had not been seen before."""

    email_id: int
    mail_id: int
    subject: str
    sender: str
    received_time: str
    folder: str
    has_attachments: bool


class MailboxAdded(Body, tag="mailbox_added", frozen=True, gc=False, kw_only=True):
    """The mailbox's own first fact. `secrets` are the names of what was sealed with it."""

    user_id: int
    email: str
    mail_type: str
    server: str
    port: int
    use_ssl: bool
    secrets: tuple[str, ...] = ()


class MailboxUpdated(Body, tag="mailbox_updated", frozen=True, gc=False, kw_only=True):
    """Where and how the mailbox is reached from now on. Another server or type voids the cursors."""

    mail_type: str
    server: str
    port: int
    use_ssl: bool


class SecretStored(Body, tag="secret_stored", frozen=True, gc=False, kw_only=True):
    """A secret was sealed anew under this name."""

    name: str


class CheckRequested(Body, tag="check_requested", frozen=True, gc=False, kw_only=True):
    """A check was queued."""

    check_id: int


class CheckStarted(Body, tag="check_started", frozen=True, gc=False, kw_only=True):
    """A queued check began, or (`implicit`) an embedding application opened one by its report."""

    check_id: int
    implicit: bool = False


class CheckProgressed(Body, tag="check_progressed", frozen=True, gc=False, kw_only=True):
    """The floor under a check's later progress, so that it cannot go back after a restart either."""

    check_id: int
    progress: int


class FoundMail(msgspec.Struct, frozen=True, gc=False):
    """What the log keeps of a mail beside its public event: its UID, size and the content's blob."""

    mail_id: int
    uid: int
    size: int
    blob: str


class CursorMoved(Body, tag="cursor_moved", frozen=True, gc=False, kw_only=True):
    """Everything up to `uid` of a folder has been seen; `mails` are those found on the way."""

    check_id: int
    folder: str
    uidvalidity: int
    uid: int
    mails: tuple[FoundMail, ...] = ()


class UidvalidityChanged(Body, tag="uidvalidity_changed", frozen=True, gc=False, kw_only=True):
    """The server numbered a folder anew: its cursor starts again."""

    folder: str
    before: int
    after: int


class CheckEnded(Body, tag="check_ended", frozen=True, gc=False, kw_only=True):
    """A check came to its one end."""

    check_id: int
    status: str


class MailboxDeleted(Body, tag="mailbox_deleted", frozen=True, gc=False, kw_only=True):
    """Nothing may be said of the mailbox after this."""


PUBLIC: Final[tuple[type[Body], ...]] = (
    EmailAdded,
    EmailUpdated,
    EmailDeleted,
    EmailStatusUpdate,
    CheckProgress,
    MailReceived,
)
INTERNAL: Final[tuple[type[Body], ...]] = (
    MailboxAdded,
    MailboxUpdated,
    SecretStored,
    CheckRequested,
    CheckStarted,
    CheckProgressed,
    CursorMoved,
    UidvalidityChanged,
    CheckEnded,
    MailboxDeleted,
)


def type_name(body: type[Body]) -> str:
    """The stored name of a body's type."""
    return str(body.__struct_config__.tag)


PUBLIC_TYPES: Final = frozenset(type_name(body) for body in PUBLIC)
INTERNAL_TYPES: Final = frozenset(type_name(body) for body in INTERNAL)

VERSIONS: Final[Mapping[str, int]] = MappingProxyType(dict.fromkeys(PUBLIC_TYPES | INTERNAL_TYPES, 1))
"""The version that each type is written in today."""

type Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""One step: the fields of a body of version n to those of version n + 1."""

UPCASTS: Final[Mapping[tuple[str, int], Upcast]] = MappingProxyType({})
"""(type, n) to the step from n to n + 1. Empty while every type is in its first version."""

_READERS: Final[Mapping[str, tuple[int, Callable[[bytes], Body]]]] = {
    type_name(body): (VERSIONS[type_name(body)], msgspec.json.Decoder(body).decode)
    for body in (*PUBLIC, *INTERNAL)
}
"""By type: today's version, and what reads a body of it. Every fold passes here: it is kept short."""


def public(user_id: int, email_id: int, body: Body) -> NewEvent:
    """`body` as an event on the user's stream, about the mailbox `email_id`."""
    return _event(user_stream(user_id), mailbox_stream(email_id), body)


def internal(email_id: int, body: Body) -> NewEvent:
    """`body` as a fact on the mailbox's own stream."""
    stream = mailbox_stream(email_id)
    return _event(stream, stream, body)


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
    """`event` in today's version of its type: what readers and frames get to see.

    Events of other domains, of today's version and of newer code come back unchanged.

    Raises:
        KeyError: a step between the stored version and today's is missing.
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
    """The typed body of one of the domain's events in today's version, None for any other event.

    Raises:
        ValueError: the stored body does not have its type's form.
    """
    known = _READERS.get(event.type)
    if known is None:
        return None
    today, decode = known
    return decode(event.body if event.version >= today else upcast(event).body)
