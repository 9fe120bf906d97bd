"""Commands of a user's roster. Pure data.

Those that need nothing but what the client sends are decoded from its message as they stand here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from huahuo.actors.plugins.actions import Id
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.roster.importer import ImportData
from huahuo.mailcheck.roster.labels import Labels
from huahuo.mailcheck.row import Row

_WITHOUT_TAGS = frozenset({"qq", "163", "126"})
"""Providers that deliver no mail to `name+tag@`."""
_NO_SECRETS: Mapping[str, Secret] = MappingProxyType({})


class AddEmail(msgspec.Struct, frozen=True, kw_only=True):
    """Add one mailbox.

    `secrets` are by name (`password`, `client_id`, `refresh_token`, `proxy`, `login`), none empty.
    """

    email: str
    mail_type: str
    server: str = ""
    port: int | None = None
    use_ssl: bool | None = None
    secrets: Mapping[str, Secret] = _NO_SECRETS


class UpdateEmail(msgspec.Struct, frozen=True, kw_only=True):
    """Change the given fields. None, an empty server and an absent secret mean no change.

    `folders` None: those that the service reads.
    """

    email_id: int
    mail_type: str | None = None
    server: str = ""
    port: int | None = None
    use_ssl: bool | None = None
    folders: tuple[str, ...] | UnsetType | None = UNSET
    secrets: Mapping[str, Secret] = _NO_SECRETS


class DeleteEmails(msgspec.Struct, frozen=True):
    """Delete mailboxes with everything stored about them. A running check is cancelled first."""

    email_ids: tuple[Id, ...]


class CheckEmails(msgspec.Struct, frozen=True):
    """Queue a check of each mailbox that has none open. `login`: it only signs in, and reads no mail."""

    email_ids: tuple[Id, ...]
    login: bool = False


class CancelCheck(msgspec.Struct, frozen=True):
    """End the open check of each mailbox that has one."""

    email_ids: tuple[Id, ...]


class LabelEmails(msgspec.Struct, frozen=True):
    """Change tags, note and group of mailboxes."""

    email_ids: tuple[Id, ...]
    labels: Labels


class SetGroupProxy(msgspec.Struct, frozen=True):
    """Give a group a proxy for all its mailboxes. None: it has none of its own any more."""

    group: str
    proxy: Secret | None


class ClaimMailbox(msgspec.Struct, frozen=True):
    """Have one of the user's own mailboxes for a while, which nobody has now and whose login works.

    `alias`: under the address `name+alias@domain`. The other fields limit the choice.
    """

    seconds: Annotated[int, Meta(ge=10, le=86_400)] = 600
    alias: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,32}$")] = ""
    mail_type: str | None = None
    tag: str | None = None
    group: str | None = None

    def admits(self, row: Row) -> bool:
        """Whether it may be this mailbox."""
        tags = {tag.casefold() for tag in row.tags or ()}
        return (
            row.status != "need_reauth"
            and (not self.alias or ("+" not in row.email and row.mail_type not in _WITHOUT_TAGS))
            and self.mail_type in (None, row.mail_type)
            and (self.tag is None or self.tag.casefold() in tags)
            and self.group in (None, row.group or "")
        )


class ReleaseMailbox(msgspec.Struct, frozen=True):
    """Give a claimed mailbox back before its time is over."""

    email_id: Id


class WatchEmails(msgspec.Struct, frozen=True):
    """Watch mailboxes for new mails, or stop that."""

    email_ids: tuple[Id, ...]
    on: bool


class ImportEmails(msgspec.Struct, frozen=True):
    """Add the mailboxes of an import text that is already parsed.

    `validate`: and sign in to each at once, or check it.
    """

    mail_type: str
    data: ImportData
    validate: Literal["", "login", "check"] = ""


type RosterCommand = (
    AddEmail
    | UpdateEmail
    | DeleteEmails
    | CheckEmails
    | CancelCheck
    | WatchEmails
    | ClaimMailbox
    | ReleaseMailbox
    | LabelEmails
    | SetGroupProxy
    | ImportEmails
)
