"""What a mailbox is asked to do, and its replies. Pure data."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from huahuo.mailcheck.fetched import FetchedMail, UidCursor

type TerminalStatus = Literal["ok", "error", "need_reauth", "cancelled"]
type ReportedStatus = Literal["queued", "processing", "ok", "error", "need_reauth", "cancelled"]


class Begin(msgspec.Struct, frozen=True, gc=False):
    """A check starts to run, or goes on after a restart."""

    check_id: int


class Progress(msgspec.Struct, frozen=True, gc=False):
    """A running check is so far."""

    check_id: int
    percent: int
    message: str


class MailsFound(msgspec.Struct, frozen=True):
    """A running check fetched these mails; with them everything up to `cursor` has been seen."""

    check_id: int
    batch: tuple[FetchedMail, ...]
    cursor: UidCursor


class Finish(msgspec.Struct, frozen=True, gc=False):
    """A running check is over. An empty message of an `ok` says how many mails were found.

    `cursor`: up to where the folder has been read, beyond the last mail that was handed over.
    """

    check_id: int
    status: TerminalStatus
    message: str = ""
    cursor: UidCursor | None = None


class ReportStatus(msgspec.Struct, frozen=True, gc=False):
    """An embedding application tells the status of what it does with the mailbox."""

    status: ReportedStatus
    message: str


class ReportProgress(msgspec.Struct, frozen=True, gc=False):
    """An embedding application tells how far it is."""

    percent: int
    message: str


type MailboxCommand = Begin | Progress | MailsFound | Finish | ReportStatus | ReportProgress


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Reply to `Begin`: what to check and from where on."""

    email: str
    mail_type: str
    server: str
    port: int
    use_ssl: bool
    cursors: Mapping[str, UidCursor]


class Done(msgspec.Struct, frozen=True, gc=False):
    """Reply: said, or already true."""


class CheckOver(msgspec.Struct, frozen=True, gc=False):
    """Reply: that check is not open (any more); nothing was said, whoever runs it stops."""


class NoMailbox(msgspec.Struct, frozen=True, gc=False):
    """Reply: the mailbox never was or is deleted."""


type MailboxReply = Plan | Done | CheckOver | NoMailbox
