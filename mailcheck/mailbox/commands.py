"""Commands of a mailbox and its replies. Pure data.

Which mails are one mail. Pure.

A UID names a mail in one folder under one UIDVALIDITY: a place. Two UIDs of one place are two mails,
however equal they are. If a mail of the same Message-ID was known in other places only, it was moved or
copied, or the server gave its folder new UIDs: it is that mail. Of several equal ones each is met once per
place.
"""

from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.fetched import FetchedMail, UidCursor, Way
from huahuo.mailcheck.records import MailRecord

EQUAL_MAX: Final = 100
"""Mails with one Message-ID that are kept apart. More of them are told whenever their folder has new UIDs."""
PLACES_MAX: Final = 16
_DIGEST_BYTES: Final = 16


class Known(msgspec.Struct, frozen=True, array_like=True):
    """A known mail, and the places where it was met."""

    mail_id: int
    received_ms: int
    places: tuple[str, ...]

    def met_in(self, place: str) -> "Known":
        """The same mail, met in one more place. The oldest places are forgotten first."""
        return Known(self.mail_id, self.received_ms, (*self.places, place)[-PLACES_MAX:])


class Equals(msgspec.Struct, frozen=True):
    """The known mails that are equal to one that was fetched, with the records that are at hand."""

    mails: tuple[Known, ...] = ()
    records: tuple[MailRecord, ...] = ()

    def record(self, mail_id: int) -> MailRecord | None:
        """The record of one of them."""
        return next((record for record in self.records if record.mail_id == mail_id), None)


def place_of(server: str, folder: str, uidvalidity: int) -> str:
    """The name of a place."""
    return f"{server.lower()}/{uidvalidity}/{folder}"


def digest_of(mail: FetchedMail) -> bytes:
    """What equal mails have in common: the Message-ID, or without one what a reader sees first."""
    said = mail.message_id
    if not said:
        said = f"\0{mail.date_ms}\0{mail.size}\0{mail.sender}\0{mail.subject}"
    return blake2b(said.encode("utf-8", "replace"), digest_size=_DIGEST_BYTES).digest()


def encoded(mails: list[Known]) -> bytes:
    """The row of the table `known`."""
    return msgspec.json.encode(mails[-EQUAL_MAX:])


def decoded(row: bytes) -> tuple[Known, ...]:
    """See `encoded`."""
    return msgspec.json.decode(row, type=tuple[Known, ...])


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
