"""Commands of a mailbox and its replies. Pure data."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.fetched import FetchedMail, UidCursor, Way
from huahuo.mailcheck.mailbox.identity import Equals
from huahuo.mailcheck.tables.records import MailRecord

_NONE: Mapping[bytes, Equals] = MappingProxyType({})

type TerminalStatus = Literal["ok", "error", "need_reauth", "cancelled"]
type ReportedStatus = Literal["queued", "processing", "ok", "error", "need_reauth", "cancelled"]


class Begin(msgspec.Struct, frozen=True, gc=False):
    """A check starts, or continues after a restart.

    `by`: the incarnation that runs it. What one of `living` runs is left to it.
    """

    check_id: int
    by: str = ""
    living: frozenset[str] = frozenset()


class Progress(msgspec.Struct, frozen=True, gc=False):
    """The progress of a running check."""

    check_id: int
    percent: int
    message: str


class MailsFound(msgspec.Struct, frozen=True):
    """A running check fetched these mails. With them all mails up to `cursor` are known.

    `equals`: the known mails that equal one of them, by digest.
    """

    check_id: int
    batch: tuple[FetchedMail, ...]
    cursor: UidCursor
    equals: Mapping[bytes, Equals] = _NONE


class Finish(msgspec.Struct, frozen=True, gc=False):
    """A running check is over. For `ok`, an empty message is replaced by the number of mails found.

    `cursor`: how far the folder was read, which may be beyond the last mail that was reported.
    """

    check_id: int
    status: TerminalStatus
    message: str = ""
    cursor: UidCursor | None = None
    error_class: str = ""
    advice: str = ""


class KeepGrant(msgspec.Struct, frozen=True, gc=False):
    """The grant of this generation was accepted in this way, and perhaps replaced by the next one."""

    generation: int
    way: Way
    refresh_token: Secret | None = None


class ClaimGrant(msgspec.Struct, frozen=True, gc=False):
    """The incarnation `by` will ask for a token by the grant. What one of `living` claimed is left to it."""

    by: str
    living: frozenset[str]


class LeaveGrant(msgspec.Struct, frozen=True, gc=False):
    """The incarnation `by` does not ask by the grant any more."""

    by: str


class ReportStatus(msgspec.Struct, frozen=True, gc=False):
    """An embedding application reports the status of its own check of the mailbox."""

    status: ReportedStatus
    message: str


class ReportProgress(msgspec.Struct, frozen=True, gc=False):
    """An embedding application reports the progress of its own check."""

    percent: int
    message: str


class MailsSeen(msgspec.Struct, frozen=True):
    """The watcher of the mailbox fetched these mails. See `MailsFound`."""

    batch: tuple[FetchedMail, ...]
    cursor: UidCursor
    equals: Mapping[bytes, Equals] = _NONE


class SeeUnread(msgspec.Struct, frozen=True, gc=False):
    """A reading saw which of a folder's newest mails are unread there, as a set of UIDs."""

    folder: str
    uidvalidity: int
    uids: str


class WatchState(msgspec.Struct, frozen=True, gc=False):
    """How the watcher of the mailbox fares. The user is told of the first failure and of the recovery."""

    status: Literal["ok", "error", "need_reauth"]
    message: str = ""
    error_class: str = ""
    advice: str = ""


class Content(msgspec.Struct, frozen=True):
    """The content of a mail of which only headers were read. `record` is the one that is stored."""

    record: MailRecord
    received_ms: int
    content: bytes
    has_attachments: bool


class KeepContents(msgspec.Struct, frozen=True):
    """The contents of mails were read, after their headers."""

    contents: tuple[Content, ...]


type MailboxCommand = (
    Begin
    | Progress
    | MailsFound
    | Finish
    | KeepGrant
    | ClaimGrant
    | LeaveGrant
    | ReportStatus
    | ReportProgress
    | MailsSeen
    | WatchState
    | KeepContents
    | SeeUnread
)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Reply to `Begin`: what to check, and from which cursors."""

    email: str
    mail_type: str
    server: str
    port: int
    use_ssl: bool
    cursors: Mapping[str, UidCursor]
    user_id: UserId = 0
    folders: tuple[str, ...] | None = None


class Done(msgspec.Struct, frozen=True, gc=False):
    """Reply: the events were written, or it was already so."""


class CheckOver(msgspec.Struct, frozen=True, gc=False):
    """Reply: that check is not open. No event was written, and the task that runs the check must stop."""


class CheckHeld(msgspec.Struct, frozen=True, gc=False):
    """Reply to `Begin`: another node, of the incarnation `by`, runs the check. No event was written."""

    by: str


class GrantHeld(msgspec.Struct, frozen=True, gc=False):
    """Reply to `ClaimGrant`: another living node asks by the grant now. No event was written."""

    by: str


class GrantReplaced(msgspec.Struct, frozen=True, gc=False):
    """Reply: the mailbox has another grant by now. No event was written."""


class NoMailbox(msgspec.Struct, frozen=True, gc=False):
    """Reply: the mailbox never existed or is deleted."""


type MailboxReply = Plan | Done | CheckOver | CheckHeld | GrantHeld | GrantReplaced | NoMailbox
