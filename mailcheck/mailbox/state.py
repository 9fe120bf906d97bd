"""The state of a mailbox, folded from `mailbox/<id>`. Pure.

It holds the open check, its progress, and the cursor of each folder. Both the mailbox and the roster of its
user write the stream, and each append names the seq that it expects.
"""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from sys import intern
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec import UNSET

from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.model import StoredEvent
from huahuo.mailcheck import events

_FORMER_MAX: Final = 8
"""UIDVALIDITYs remembered per folder. One changes when a folder is recreated, so a few times in its life."""

_DIGEST_BYTES: Final = 12
_OF_GRANT: Final = frozenset({"client_id", "refresh_token"})
_NOTHING: Mapping[str, events.UidCursor] = MappingProxyType({})


class Check(msgspec.Struct):
    """The open check. `found` counts its new mails; `implicit`: an embedding application runs it.

    `cause` is the position of the event that requested it. The check's own events name it as their cause.
    """

    check_id: int
    started: bool = False
    implicit: bool = False
    progress: int = 0
    found: int = 0
    cause: int = 0
    by: str = ""
    """The incarnation that runs it, where several nodes share the log."""


class Mailbox(msgspec.Struct):
    """One mailbox. Cursors are kept by server and folder, because UIDs are only valid on their server.

    `secrets` are the names of the secrets sealed for it.
    """

    email_id: int
    user_id: UserId = 0
    email: str = ""
    mail_type: str = ""
    server: str = ""
    port: int = 0
    use_ssl: bool = True
    deleted: bool = False
    secrets: tuple[str, ...] = ()
    grant: int = 0
    """Rises with each new client id or refresh token, the user's or a rotated one."""
    way: events.Way = events.Way()
    grant_by: str = ""
    """The incarnation that asks for a token by the grant now, where several nodes share the log."""
    failed: bool = False
    """The last that the user was told is a failure."""
    refused: bool = False
    """The server refused what the mailbox signs in with, and nothing about that has changed since."""
    check: Check | None = None
    cursors: dict[str, dict[str, events.UidCursor]] = msgspec.field(default_factory=dict)
    former: dict[str, dict[str, list[events.UidCursor]]] = msgspec.field(default_factory=dict)
    """By server and folder: the last cursor under each earlier UIDVALIDITY, the latest last. A server that
    was restored from a backup may return to an earlier one. Its mails must not be reported again (I22)."""

    folders: tuple[str, ...] | None = None
    """Read besides INBOX. None: as the service says."""
    unread: dict[str, bytes] = msgspec.field(default_factory=dict)
    """By folder: the digest of what was told last of its unread mails."""

    @property
    def exists(self) -> bool:
        """Whether it was added and not deleted."""
        return bool(self.email) and not self.deleted

    @property
    def seen(self) -> Mapping[str, events.UidCursor]:
        """The cursor of each folder on the mailbox's current server."""
        return self.cursors.get(self.server.lower(), _NOTHING)

    def knows(self, folder: str, uidvalidity: int, uid: int) -> bool:
        """Whether a mail in a folder of the current server is known by its UID."""
        return any(place.knows(uid) for place in self._places(folder, uidvalidity))

    def seen_under(self, folder: str, uidvalidity: int) -> int:
        """The highest known UID in a folder of the current server under this UIDVALIDITY, 0 if none."""
        return max((place.uid for place in self._places(folder, uidvalidity)), default=0)

    def _places(self, folder: str, uidvalidity: int) -> list[events.UidCursor]:
        now = self.seen.get(folder)
        former = self.former.get(self.server.lower(), {}).get(folder, ())
        places = former if now is None else (now, *former)
        return [place for place in places if place.uidvalidity == uidvalidity]


class MailboxFold:
    """Folds a mailbox from its own stream."""

    name: Final = "mailbox"
    fingerprint: Final = "mailbox-7"

    def initial(self, stream: str) -> Mailbox:
        """See `Fold`. Raises ValueError if the stream's name holds no number."""
        return Mailbox(events.id_of(stream))

    def evolve(self, state: Mailbox, event: StoredEvent) -> Mailbox:
        """See `Fold`."""
        body = events.read(event)
        check = state.check
        match body:
            case events.MailboxAdded():
                state.user_id, state.email = body.user_id, body.email
                state.secrets = _shared(body.secrets)
                _reached(state, body)
            case events.SecretStored():
                if body.name not in state.secrets:
                    state.secrets = _shared((*state.secrets, body.name))
                state.refused = False
                if body.name in _OF_GRANT:
                    state.grant, state.way = state.grant + 1, events.Way()
            case events.GrantKept():
                _kept(state, body)
            case events.GrantClaimed():
                state.grant_by = intern(body.by)
            case events.MailboxUpdated():
                _reached(state, body)
                state.way, state.refused = events.Way(), False
            case events.FoldersChosen():
                state.folders = body.folders
            case events.UnreadThere():
                state.unread[body.folder] = unread_digest(body.uidvalidity, body.uids)
            case events.CheckRequested():
                state.check = Check(body.check_id, cause=event.position)
            case events.CheckStarted() if check is None or check.check_id != body.check_id:
                state.check = Check(body.check_id, started=True, implicit=body.implicit, cause=event.position)
            case events.CheckStarted() if check is not None:
                check.started, check.by = True, body.by or ""
            case events.CheckProgressed() if check is not None:
                check.progress = body.progress
            case events.CursorMoved():
                _moved(state, body)
            case events.CheckEnded():
                state.check = None
                _ended(state, body.status)
            case events.WatchTold():
                _ended(state, body.status)
            case events.MailboxDeleted():
                state.deleted, state.check, state.secrets = True, None, ()
                state.cursors.clear()
                state.former.clear()
                state.unread.clear()
            case _:
                pass
        return state

    def dump(self, state: Mailbox) -> bytes:
        """See `Fold`."""
        return msgspec.msgpack.encode(state)

    def load(self, stream: str, data: bytes) -> Mailbox:
        """See `Fold`."""
        state = msgspec.msgpack.decode(data, type=Mailbox)
        if state.email_id != events.id_of(stream):
            raise ValueError("another mailbox's keyframe")
        return state


def unread_digest(uidvalidity: int, uids: str) -> bytes:
    """What stands for the unread mails of a folder: two sets with one digest are the same."""
    return blake2b(f"{uidvalidity} {uids}".encode(), digest_size=_DIGEST_BYTES).digest()


@lru_cache(maxsize=64)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """One tuple, shared by all mailboxes with the same secret names."""
    return names


@lru_cache(maxsize=64)
def _way(way: events.Way) -> events.Way:
    """One object, shared by all mailboxes that sign in in this way."""
    return way


def _moved(state: Mailbox, body: events.CursorMoved) -> None:
    folders = state.cursors.setdefault(state.server.lower(), {})
    link = "" if body.link is UNSET else body.link
    rest = 0 if body.rest is UNSET else body.rest
    cursor = events.UidCursor(body.folder, body.uidvalidity, body.uid, link, rest)
    _remember(state, folders.get(body.folder), cursor)
    folders[body.folder] = cursor
    check = state.check
    if check is not None and check.check_id == body.check_id:
        check.found += len(body.mails)


def _kept(state: Mailbox, body: events.GrantKept) -> None:
    state.way = _way(events.Way(body.graph, body.token_url, body.scope))
    if body.rotated:
        state.grant, state.grant_by = state.grant + 1, ""  # the node that had claimed it did it


def _ended(state: Mailbox, status: str) -> None:
    if status != "cancelled":
        state.failed, state.refused = status != "ok", status == "need_reauth"


def _remember(state: Mailbox, before: events.UidCursor | None, after: events.UidCursor) -> None:
    """If the UIDVALIDITY of a folder changed, keep its last cursor."""
    if before is None or before.uidvalidity == after.uidvalidity:
        return
    folders = state.former.setdefault(state.server.lower(), {})
    kept = folders.get(before.folder, [])
    highest = max(one.uid for one in (*kept, before) if one.uidvalidity == before.uidvalidity)
    others = [one for one in kept if one.uidvalidity != before.uidvalidity]
    left = events.UidCursor(before.folder, before.uidvalidity, highest, rest=before.rest)
    folders[before.folder] = [*others, left][-_FORMER_MAX:]


def _reached(state: Mailbox, body: events.MailboxAdded | events.MailboxUpdated) -> None:
    # Interned, because up to 100,000 mailboxes share a few servers.
    state.mail_type, state.server = intern(body.mail_type), intern(body.server)
    state.port, state.use_ssl = body.port, body.use_ssl
