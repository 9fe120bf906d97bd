"""The domain's events: their stored names and bodies. Pure.

Public events are on `user/<id>`, with the bytes that go over the wire (PROTOCOL 4.1). Internal facts are on
`mailbox/<id>` and `roster/<id>`. Event names are strings of our own, not Python import paths. A body holds no
password, token or key, only the name under which a secret is sealed.

`stored_events` writes and reads them.
"""

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from huahuo.actors.plugins.principal import UserId
from huahuo.mailcheck.claim import Claim

STATUSES_TERMINAL: Final = frozenset({"ok", "error", "need_reauth", "cancelled"})
STATUSES_BUSY: Final = frozenset({"queued", "processing"})
PROGRESS_MAX: Final = 100


class Body(msgspec.Struct, frozen=True, gc=False, tag_field="type", kw_only=True):
    """The JSON object of an event. `type` comes first, and `timestamp` is one of the fields."""

    timestamp: str


class EmailAdded(Body, tag="email_added", frozen=True, gc=False, kw_only=True):
    """A user has a new mailbox."""

    email_id: int
    email: str
    mail_type: str
    server: str
    port: int
    use_ssl: bool


class EmailUpdated(Body, tag="email_updated", frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The public fields that changed. If only a secret changed, there are none."""

    email_id: int
    mail_type: str | UnsetType = UNSET
    server: str | UnsetType = UNSET
    port: int | UnsetType = UNSET
    use_ssl: bool | UnsetType = UNSET
    watched: bool | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    note: str | UnsetType = UNSET
    group: str | UnsetType = UNSET
    folders: tuple[str, ...] | UnsetType | None = UNSET
    claim: Claim | UnsetType | None = UNSET


class EmailDeleted(Body, tag="email_deleted", frozen=True, gc=False, kw_only=True):
    """A mailbox was deleted with everything that was stored about it."""

    email_id: int


class EmailStatusUpdate(
    Body, tag="email_status_update", frozen=True, gc=False, kw_only=True, omit_defaults=True
):
    """A check's new state: `queued`, `processing` or a terminal status.

    After a failure: its class (docs/mail.md), and what to do next. `check_id` is 0 where no check says it but
    the watcher of the mailbox: it failed, or works again.
    """

    email_id: int
    status: str
    message: str
    check_id: int
    error_class: str = ""
    advice: str = ""


class CheckProgress(Body, tag="check_progress", frozen=True, gc=False, kw_only=True):
    """How far a check is, 0 to 100. Within one check it never decreases."""

    email_id: int
    progress: int
    message: str
    check_id: int


class MailReceived(Body, tag="mail_received", frozen=True, gc=False, kw_only=True):
    """A check or a watcher found a new mail. With the verification code in it, if one was found."""

    email_id: int
    mail_id: int
    subject: str
    sender: str
    received_time: str
    folder: str
    has_attachments: bool
    code: str | UnsetType = UNSET
    code_confidence: float | UnsetType = UNSET


class MailboxAdded(Body, tag="mailbox_added", frozen=True, gc=False, kw_only=True):
    """The first fact of a mailbox's own stream. `secrets` are the names of the secrets sealed with it."""

    user_id: UserId
    email: str
    mail_type: str
    server: str
    port: int
    use_ssl: bool
    secrets: tuple[str, ...] = ()


class MailboxUpdated(Body, tag="mailbox_updated", frozen=True, gc=False, kw_only=True):
    """The mailbox's new server and login settings. Another server or type invalidates the cursors."""

    mail_type: str
    server: str
    port: int
    use_ssl: bool


class FoldersChosen(Body, tag="folders_chosen", frozen=True, gc=False, kw_only=True):
    """Which folders of the mailbox are read besides INBOX. None: as the service says."""

    folders: tuple[str, ...] | None


class SecretStored(Body, tag="secret_stored", frozen=True, gc=False, kw_only=True):
    """A new secret was sealed under this name."""

    name: str


class GrantKept(Body, tag="grant_kept", frozen=True, gc=False, kw_only=True):
    """How the mailbox's grant was accepted. `rotated`: the next refresh token was sealed with this event."""

    rotated: bool
    graph: bool
    token_url: str
    scope: str


class GrantClaimed(Body, tag="grant_claimed", frozen=True, gc=False, kw_only=True):
    """The incarnation `by` asks for a token by the mailbox's grant. Empty: it is done.

    Only where several nodes share the log.
    """

    by: str


class CheckRequested(Body, tag="check_requested", frozen=True, gc=False, kw_only=True):
    """A check was queued."""

    check_id: int


class CheckStarted(Body, tag="check_started", frozen=True, gc=False, kw_only=True):
    """A queued check began, or another node goes on with it.

    `implicit`: the report of an embedding application opened it. `by`: the incarnation that runs it, where
    several nodes share the log.
    """

    check_id: int
    implicit: bool = False
    by: str | UnsetType = UNSET


class CheckProgressed(Body, tag="check_progressed", frozen=True, gc=False, kw_only=True):
    """The lower bound of a check's later progress, so that progress does not decrease after a restart."""

    check_id: int
    progress: int


class FoundMail(msgspec.Struct, frozen=True, gc=False):
    """What the log stores about a mail besides its public event: UID, size and content blob."""

    mail_id: int
    uid: int
    size: int
    blob: str
    remote_id: str | UnsetType = UNSET


class KeptMail(msgspec.Struct, frozen=True, gc=False):
    """A mail whose content was read later. `attached`: its headers had looked as if it had attachments."""

    mail_id: int
    blob: str
    attached: bool


class ContentsKept(Body, tag="contents_kept", frozen=True, gc=False, kw_only=True):
    """The contents of these mails were read, after their headers."""

    mails: tuple[KeptMail, ...]


class UnreadThere(Body, tag="unread_there", frozen=True, gc=False, kw_only=True):
    """Which of a folder's newest mails are unread on the server, as a set of UIDs (`1:3,7`)."""

    folder: str
    uidvalidity: int
    uids: str


class CursorMoved(Body, tag="cursor_moved", frozen=True, gc=False, kw_only=True):
    """All mails of a folder up to `uid` are known. `mails` are the new ones among them.

    `check_id` is 0 where the watcher of the mailbox found them. Mails up to `rest` are not known yet. `same`:
    ids and UIDs of mails that were known in other places.
    """

    check_id: int
    folder: str
    uidvalidity: int
    uid: int
    mails: tuple[FoundMail, ...] = ()
    link: str | UnsetType = UNSET
    rest: int | UnsetType = UNSET
    same: tuple[tuple[int, int], ...] | UnsetType = UNSET


class UidvalidityChanged(Body, tag="uidvalidity_changed", frozen=True, gc=False, kw_only=True):
    """The server gave a folder's mails new UIDs, so its cursor starts again."""

    folder: str
    before: int
    after: int


class CheckEnded(Body, tag="check_ended", frozen=True, gc=False, kw_only=True):
    """A check ended. This happens once for each check."""

    check_id: int
    status: str


class WatchTold(Body, tag="watch_told", frozen=True, gc=False, kw_only=True):
    """The user was told that the watcher of the mailbox failed, or that it works again."""

    status: str


class MailboxDeleted(Body, tag="mailbox_deleted", frozen=True, gc=False, kw_only=True):
    """The last fact of a mailbox: no event about it may follow."""


class GroupProxySet(Body, tag="group_proxy_set", frozen=True, gc=False, kw_only=True):
    """A group has a proxy, which was sealed with this event, or (`on` false) none any more."""

    group: str
    on: bool


class RosterChanged(Body, tag="roster_changed", frozen=True, gc=False, kw_only=True):
    """A roster added, changed or deleted mailboxes. What exactly is on `user/<id>`, in the same append."""


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
    FoldersChosen,
    SecretStored,
    GrantKept,
    GrantClaimed,
    CheckRequested,
    CheckStarted,
    CheckProgressed,
    ContentsKept,
    CursorMoved,
    UnreadThere,
    UidvalidityChanged,
    CheckEnded,
    WatchTold,
    MailboxDeleted,
    GroupProxySet,
    RosterChanged,
)


def type_name(body: type[Body]) -> str:
    """The stored name of a body's type."""
    return str(body.__struct_config__.tag)


PUBLIC_TYPES: Final = frozenset(type_name(body) for body in PUBLIC)
