"""The domain's entities as the replay debugger shows them: rosters and mailboxes.

A mailbox is shown as one object: its row as the user sees it (status, progress, mail_count, …), and its
internal state (open check, cursors, names of sealed secrets). The row comes from the stream of the user, the
rest from the mailbox's own stream.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.principal import UserId, user_id_of
from huahuo.eventstore.model import StoredEvent
from huahuo.mailcheck.events import GrantKept, MailboxAdded, SecretStored
from huahuo.mailcheck.mailbox.state import Mailbox, MailboxFold
from huahuo.mailcheck.roster.state import Roster, RosterFold
from huahuo.mailcheck.stored_events import read
from huahuo.mailcheck.streams import id_of, mailbox_stream, user_of, user_stream
from huahuo.replay.history.history import History
from huahuo.replay.history.subject import FoldSubject, Part, Subject

SEALED: Final = "[sealed]"


def sealed_in(event: StoredEvent) -> tuple[str, ...]:
    """The names of the secrets that were sealed with an event, without their content."""
    body = read(event)
    match body:
        case MailboxAdded():
            return body.secrets
        case SecretStored():
            return (body.name,)
        case GrantKept(rotated=True):
            return ("refresh_token",)
        case _:
            return ()


def shown(type_: str, fields: dict[str, Any]) -> dict[str, Any]:
    """An event's fields for an audit. Each sealed secret is a field with the value `[sealed]`."""
    match type_, fields:
        case "mailbox_added", {"secrets": [*names]}:
            return fields | {"secrets": dict.fromkeys(names, SEALED)}
        case "secret_stored", {"name": str()}:
            return fields | {"value": SEALED}
        case "grant_kept", {"rotated": True}:
            return fields | {"refresh_token": SEALED}
        case _:
            return fields


class RosterSubject:
    """`user/42`: its mailboxes by id, and the open check of each."""

    rising: Final = frozenset[str]()

    def __init__(self, user_id: UserId) -> None:
        self.entity = self.stream = user_stream(user_id)
        self.parts = (Part(self.stream, RosterFold()),)

    def concerns(self, event: StoredEvent) -> bool:
        """See `Subject`."""
        del event
        return True

    def show(self, states: Sequence[Any]) -> dict[str, Any]:
        """See `Subject`."""
        roster: Roster = states[0]
        return _roster(roster, roster.rows)

    def glimpse(self, states: Sequence[Any], event: StoredEvent) -> dict[str, Any]:
        """See `Subject`: the one row that the event is about."""
        roster: Roster = states[0]
        _, _, number = event.entity.partition("/")
        email_id = int(number) if number.isdecimal() else 0
        return _roster(roster, (email_id,) if email_id in roster.rows else ())


def _roster(roster: Roster, email_ids: Any) -> dict[str, Any]:
    return {
        "emails": {str(i): msgspec.to_builtins(roster.rows[i]) for i in email_ids},
        "checks": {str(i): roster.checks[i] for i in email_ids if i in roster.checks},
    }


class MailboxSubject:
    """`mailbox/17`. `user_id` is its owner."""

    rising: Final = frozenset({"deleted"})

    def __init__(self, email_id: int, user_id: UserId) -> None:
        self.entity = self.stream = mailbox_stream(email_id)
        self.email_id = email_id
        self.parts = (
            Part(user_stream(user_id), RosterFold(), selective=True),
            Part(self.stream, MailboxFold()),
        )

    def concerns(self, event: StoredEvent) -> bool:
        """See `Subject`. The user's stream also holds events about other mailboxes."""
        return event.entity == self.entity

    def show(self, states: Sequence[Any]) -> dict[str, Any]:
        """See `Subject`."""
        roster: Roster = states[0]
        mailbox: Mailbox = states[1]
        row = roster.rows.get(self.email_id)
        shown: dict[str, Any] = {} if row is None else msgspec.to_builtins(row)
        inside: dict[str, Any] = msgspec.to_builtins(mailbox)
        return {
            "id": self.email_id,
            "deleted": mailbox.deleted,
            **shown,
            "check": inside["check"],
            "cursors": inside["cursors"],
            "secrets": dict.fromkeys(mailbox.secrets, SEALED),
        }

    def glimpse(self, states: Sequence[Any], event: StoredEvent) -> dict[str, Any]:
        """See `Subject`."""
        del event
        return self.show(states)


async def subject_of(history: History, entity: str) -> Subject | None:
    """The subject of `user/<id>` or `mailbox/<id>`; None for any other name.

    Raises:
        LookupError: this history has no such mailbox or user.
    """
    kind, _, number = entity.partition("/")
    if not _is_ours(kind, number):
        return None
    if not history.head(entity).seq:
        raise LookupError(f"nothing ever happened to {entity}")
    if kind == "user":
        return RosterSubject(user_of(entity))
    first = await history.read(entity, 0, events_max=1)
    body = read(first[0]) if first else None
    if not isinstance(body, MailboxAdded):
        raise LookupError(  # noqa: TRY004  the log's fault, not a caller's
            f"{entity} does not begin with its own addition: its history is cut off"
        )
    return MailboxSubject(id_of(entity), body.user_id)


def own_subject(stream: str) -> Subject | None:
    """The subject of one stream alone: a roster, or the internal half of a mailbox. None for others."""
    kind, _, number = stream.partition("/")
    if not _is_ours(kind, number):
        return None
    if kind == "user":
        return RosterSubject(user_of(stream))
    return FoldSubject(stream, MailboxFold())


def _is_ours(kind: str, key: str) -> bool:
    """Whether a user or a mailbox can have this name."""
    return user_id_of(key) is not None if kind == "user" else kind == "mailbox" and key.isdecimal()
