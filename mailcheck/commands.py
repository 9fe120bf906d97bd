"""What the roster and the mailbox entities are asked to do, and what they start. Pure data."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from eventstore.model import Secret
from mailcheck.check_api import FetchedMail, UidCursor
from mailcheck.importer import ImportData

_NO_SECRETS: Mapping[str, Secret] = MappingProxyType({})

type TerminalStatus = Literal["ok", "error", "need_reauth", "cancelled"]
type ReportedStatus = Literal["queued", "processing", "ok", "error", "need_reauth", "cancelled"]


# -- the roster of a user -----------------------------------------------------------------------


class AddEmail(msgspec.Struct, frozen=True, kw_only=True):
    """Add one mailbox. `secrets` by name (`password`, `client_id`, `refresh_token`), none empty."""

    email: str
    mail_type: str
    server: str = ""
    port: int | None = None
    use_ssl: bool | None = None
    secrets: Mapping[str, Secret] = _NO_SECRETS


class UpdateEmail(msgspec.Struct, frozen=True, kw_only=True):
    """Change what is given; None, an empty server and an absent secret leave things as they are."""

    email_id: int
    mail_type: str | None = None
    server: str = ""
    port: int | None = None
    use_ssl: bool | None = None
    secrets: Mapping[str, Secret] = _NO_SECRETS


class DeleteEmails(msgspec.Struct, frozen=True):
    """Delete mailboxes with all that is kept of them; a running check is cancelled first."""

    email_ids: tuple[int, ...]


class CheckEmails(msgspec.Struct, frozen=True):
    """Queue a check of each mailbox that has none open."""

    email_ids: tuple[int, ...]


class CancelCheck(msgspec.Struct, frozen=True):
    """End the open check of each mailbox that has one."""

    email_ids: tuple[int, ...]


class ImportEmails(msgspec.Struct, frozen=True):
    """Add the mailboxes of an import text, parsed before."""

    mail_type: str
    data: ImportData


type RosterCommand = AddEmail | UpdateEmail | DeleteEmails | CheckEmails | CancelCheck | ImportEmails


class StartCheck(msgspec.Struct, frozen=True, gc=False):
    """Effect: run this check when its host has a place."""

    email_id: int
    check_id: int
    host: str
    user_id: int


class StopCheck(msgspec.Struct, frozen=True, gc=False):
    """Effect: the check has ended in the log; whoever runs it stops."""

    check_id: int


class Purge(msgspec.Struct, frozen=True, gc=False):
    """Effect: remove the rows and blobs of a deleted mailbox."""

    email_id: int


type Effect = StartCheck | StopCheck | Purge


# -- a mailbox ----------------------------------------------------------------------------------


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
