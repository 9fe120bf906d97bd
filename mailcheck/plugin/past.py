"""The past of mail, for time travel, audits and exports. See `huahuo.actors.plugins.past`.

A mailbox is shown as one object: its row as the user sees it (status, progress, mail_count, …), from the
stream of the user, and its internal state (open check, cursors, names of sealed secrets), from the
mailbox's own stream. `say` gives the texts of events in one language: progress, how a check ended, and why
it failed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Reply, UserId, user_id_of
from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.words import Language, Words
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log
from huahuo.mailcheck import en, events, zh
from huahuo.mailcheck.api.import_export import belongings
from huahuo.mailcheck.api.mailbox_list import RowsCut, list_of, snapshot_of
from huahuo.mailcheck.mailbox.state import Mailbox, MailboxFold
from huahuo.mailcheck.roster.state import Roster, RosterFold
from huahuo.mailcheck.servers.faults import KINDS
from huahuo.replay.history.history import History
from huahuo.replay.history.keyframes import state_at
from huahuo.replay.history.subject import FoldSubject, Part, Subject

SEALED: Final = "[sealed]"


def sealed_in(event: StoredEvent) -> tuple[str, ...]:
    """The names of the secrets that were sealed with an event, without their content."""
    body = events.read(event)
    match body:
        case events.MailboxAdded():
            return body.secrets
        case events.SecretStored():
            return (body.name,)
        case events.GrantKept(rotated=True):
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
        self.entity = self.stream = events.user_stream(user_id)
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
        self.entity = self.stream = events.mailbox_stream(email_id)
        self.email_id = email_id
        self.parts = (
            Part(events.user_stream(user_id), RosterFold(), selective=True),
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
        return RosterSubject(events.user_of(entity))
    first = await history.read(entity, 0, events_max=1)
    body = events.read(first[0]) if first else None
    if not isinstance(body, events.MailboxAdded):
        raise LookupError(  # noqa: TRY004  the log's fault, not a caller's
            f"{entity} does not begin with its own addition: its history is cut off"
        )
    return MailboxSubject(events.id_of(entity), body.user_id)


def own_subject(stream: str) -> Subject | None:
    """The subject of one stream alone: a roster, or the internal half of a mailbox. None for others."""
    kind, _, number = stream.partition("/")
    if not _is_ours(kind, number):
        return None
    if kind == "user":
        return RosterSubject(events.user_of(stream))
    return FoldSubject(stream, MailboxFold())


def _is_ours(kind: str, key: str) -> bool:
    """Whether a user or a mailbox can have this name."""
    return user_id_of(key) is not None if kind == "user" else kind == "mailbox" and key.isdecimal()


_WORDS: Final = Words()
_WORDS.add(zh, en)
_FAILURES: Final = {
    told: {"zh": chinese, "en": english}
    for kind in KINDS.values()
    for told, chinese, english in (
        (kind.message, *kind.messages),
        (kind.advice, kind.advice_chinese, kind.advice_english),
    )
}
"""Texts about failures, which are stored in both languages, by what is stored."""
_SERVER: Final = ": "
"""Between such a text and the words of the mail server."""


def say(text: str, language: Language) -> str:
    """See `Past.say`."""
    if (known := _FAILURES.get(text)) is not None:
        return known[language]
    for stored, known in _FAILURES.items():
        if text.startswith(stored + _SERVER):
            return known[language] + text[len(stored) :]
    return _WORDS.say(text, language)


async def _snapshot(log: Log, stream: str) -> tuple[int, RowsCut]:
    seq, roster = await state_at(log, stream, RosterFold())
    return seq, snapshot_of(roster)


def _actions(log: Log) -> Sequence[Action]:
    async def emails(call: Call[dict[str, Any]]) -> Reply:
        stream = events.user_stream(call.principal.user_id)
        seq, roster = await state_at(log, stream, RosterFold())
        return Reply(body=b'{"type":"emails_list"}', parted=list_of(roster, stream, seq))

    return (Action("get_all_emails", dict, emails, query=True),)


PAST: Final = Past(
    subject_of=subject_of,
    own_subject=own_subject,
    kinds=("user", "mailbox"),
    sealed_in=sealed_in,
    shown=shown,
    snapshots={"user": _snapshot},
    actions=_actions,
    guides=(Path(__file__).parents[1] / "guide" / "guide.py",),
    entity_fields={"email_id": "mailbox"},
    belongings=belongings,
    prunable=frozenset({"check_progress"}),
    worded={
        "check_progress": frozenset({"message"}),
        "email_status_update": frozenset({"message", "advice"}),
    },
    say=say,
    last=frozenset({"mailbox_deleted"}),
)
