"""What a mailbox knows of itself: the state that `mailbox/<id>` folds to. Pure.

The open check, how far it is, and up to where each folder has been seen. The stream is written by
the mailbox and by the roster of its user, each expecting the other's last word.
"""

from collections.abc import Mapping
from functools import lru_cache
from sys import intern
from types import MappingProxyType
from typing import Final

import msgspec

from eventstore.model import StoredEvent
from mailcheck.check_api import UidCursor
from mailcheck.events import (
    CheckEnded,
    CheckProgressed,
    CheckRequested,
    CheckStarted,
    CursorMoved,
    MailboxAdded,
    MailboxDeleted,
    MailboxUpdated,
    SecretStored,
    id_of,
    read,
)

_NOTHING: Mapping[str, UidCursor] = MappingProxyType({})


class Check(msgspec.Struct):
    """The open check. `found` counts its new mails; `implicit`: an embedding application runs it.

    `cause` is the position of the event that asked for it: what the check says names it.
    """

    check_id: int
    started: bool = False
    implicit: bool = False
    progress: int = 0
    found: int = 0
    cause: int = 0


class Mailbox(msgspec.Struct):
    """One mailbox. Cursors by server and folder: each server numbers its mails in its own way.

    `secrets` are the names of what is sealed for it.
    """

    email_id: int
    user_id: int = 0
    email: str = ""
    mail_type: str = ""
    server: str = ""
    port: int = 0
    use_ssl: bool = True
    deleted: bool = False
    secrets: tuple[str, ...] = ()
    check: Check | None = None
    cursors: dict[str, dict[str, UidCursor]] = msgspec.field(default_factory=dict)

    @property
    def exists(self) -> bool:
        """Whether it was added and not deleted."""
        return bool(self.email) and not self.deleted

    @property
    def seen(self) -> Mapping[str, UidCursor]:
        """Up to where each folder of the mailbox's present server has been seen."""
        return self.cursors.get(self.server.lower(), _NOTHING)


class MailboxFold:
    """How a mailbox follows from its own stream."""

    name: Final = "mailbox"
    fingerprint: Final = "mailbox-2"

    def initial(self, stream: str) -> Mailbox:
        """See `Fold`. Raises ValueError for a stream that is no mailbox's."""
        return Mailbox(id_of(stream))

    def evolve(self, state: Mailbox, event: StoredEvent) -> Mailbox:
        """See `Fold`."""
        body = read(event)
        check = state.check
        match body:
            case MailboxAdded():
                state.user_id, state.email = body.user_id, body.email
                state.secrets = _shared(body.secrets)
                _reached(state, body)
            case SecretStored() if body.name not in state.secrets:
                state.secrets = _shared((*state.secrets, body.name))
            case MailboxUpdated():
                _reached(state, body)
            case CheckRequested():
                state.check = Check(body.check_id, cause=event.position)
            case CheckStarted() if check is None or check.check_id != body.check_id:
                state.check = Check(body.check_id, started=True, implicit=body.implicit, cause=event.position)
            case CheckStarted() if check is not None:
                check.started = True
            case CheckProgressed() if check is not None:
                check.progress = body.progress
            case CursorMoved():
                folders = state.cursors.setdefault(state.server.lower(), {})
                folders[body.folder] = UidCursor(body.folder, body.uidvalidity, body.uid)
                if check is not None:
                    check.found += len(body.mails)
            case CheckEnded():
                state.check = None
            case MailboxDeleted():
                state.deleted, state.check, state.secrets = True, None, ()
                state.cursors.clear()
            case _:
                pass
        return state

    def dump(self, state: Mailbox) -> bytes:
        """See `Fold`."""
        return msgspec.msgpack.encode(state)

    def load(self, stream: str, data: bytes) -> Mailbox:
        """See `Fold`."""
        state = msgspec.msgpack.decode(data, type=Mailbox)
        if state.email_id != id_of(stream):
            raise ValueError("another mailbox's keyframe")
        return state


@lru_cache(maxsize=64)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """One tuple for all mailboxes that have the same secrets."""
    return names


def _reached(state: Mailbox, body: MailboxAdded | MailboxUpdated) -> None:
    # Interned: there are few servers and 100,000 mailboxes.
    state.mail_type, state.server = intern(body.mail_type), intern(body.server)
    state.port, state.use_ssl = body.port, body.use_ssl
