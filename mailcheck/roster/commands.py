"""Commands of a user's roster, and the rules for labels and accounts. Pure.

Commands that need nothing but what the client sends are decoded from its message as they stand here. A
violation of a rule is a `Refusal`. A user writes labels, and they are events: they stay in the log after
the mailbox is gone, so no label should hold a secret.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from huahuo.actors.plugins.actions import Id
from huahuo.actors.plugins.calls import Refusal
from huahuo.eventstore.model import Secret
from huahuo.mailcheck import zh
from huahuo.mailcheck.records import Row
from huahuo.mailcheck.roster.importer import ImportData, is_address
from huahuo.mailcheck.servers.faults import HostRefused
from huahuo.mailcheck.servers.providers import BUILT_IN, TOKENS, Providers, auth_of, host_name, parse_proxy

TAGS_MAX: Final = 20
"""Of one mailbox."""
TAG_CHARS_MAX: Final = 32
GROUP_CHARS_MAX: Final = 64
NOTE_CHARS_MAX: Final = 1_000
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_CONTROL_BUT_LINES: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


class Labels(msgspec.Struct, frozen=True):
    """A change of labels. None: unchanged; an empty note or group takes it off."""

    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    note: str | None = None
    group: str | None = None


def tidied(labels: Labels) -> Labels:
    """The same without white space at the ends, and each tag once."""
    return Labels(
        _tidied(labels.add_tags),
        _tidied(labels.remove_tags),
        None if labels.note is None else labels.note.strip(),
        None if labels.group is None else labels.group.strip(),
    )


def refuse_labels(labels: Labels) -> Refusal | None:
    """The refusal of tidied labels, None if they are acceptable."""
    for name, tags in (("add_tags", labels.add_tags), ("remove_tags", labels.remove_tags)):
        if any(not 0 < len(tag) <= TAG_CHARS_MAX or _CONTROL.search(tag) for tag in tags):
            return Refusal("invalid_field", zh.TAG_CHARS.format(TAG_CHARS_MAX), name)
    if labels.group is not None and (len(labels.group) > GROUP_CHARS_MAX or _CONTROL.search(labels.group)):
        return Refusal("invalid_field", zh.GROUP_CHARS.format(GROUP_CHARS_MAX), "group")
    note = labels.note or ""
    if len(note) > NOTE_CHARS_MAX or _CONTROL_BUT_LINES.search(note):
        return Refusal("invalid_field", zh.NOTE_CHARS.format(NOTE_CHARS_MAX), "note")
    if labels == Labels():
        return Refusal("invalid_field", zh.NO_LABELS, "add_tags")
    return None


def refuse_group(group: str) -> Refusal | None:
    """The refusal of a group that must have a name, None if it is acceptable."""
    if not 0 < len(group) <= GROUP_CHARS_MAX or _CONTROL.search(group):
        return Refusal("invalid_field", zh.GROUP_NAME.format(GROUP_CHARS_MAX), "group")
    return None


def changes_of(row: Row, labels: Labels) -> dict[str, tuple[str, ...] | str]:
    """What tidied labels change about a row, by the names of its fields. Empty: nothing."""
    tags, note, group = _plain(row)
    removed = {tag.casefold() for tag in labels.remove_tags}
    there = {tag.casefold() for tag in tags}
    after = tuple(tag for tag in tags if tag.casefold() not in removed) + tuple(
        tag for tag in labels.add_tags if tag.casefold() not in there and tag.casefold() not in removed
    )
    changed: dict[str, tuple[str, ...] | str] = {}
    if after != tags:
        changed["tags"] = after
    if labels.note is not None and labels.note != note:
        changed["note"] = labels.note
    if labels.group is not None and labels.group != group:
        changed["group"] = labels.group
    return changed


def too_many(changed: dict[str, tuple[str, ...] | str]) -> bool:
    """Whether a mailbox would have more tags than it may."""
    return len(changed.get("tags", ())) > TAGS_MAX


def _plain(row: Row) -> tuple[tuple[str, ...], str, str]:
    return (
        () if row.tags is UNSET else row.tags,
        "" if row.note is UNSET else row.note,
        "" if row.group is UNSET else row.group,
    )


def _tidied(tags: Iterable[str]) -> tuple[str, ...]:
    by_key = {tag.strip().casefold(): tag.strip() for tag in reversed(tuple(tags))}
    return tuple(reversed(by_key.values()))


SIGN_IN_SECRETS: Final = ("password", "client_id", "refresh_token")
"""What a mailbox signs in with, by the names under which it is sealed."""
SECRET_CHARS_MAX: Final = 8192
FOLDERS_MAX: Final = 20
"""Of one mailbox, besides INBOX."""
FOLDER_CHARS_MAX: Final = 200
_PORT_MAX: Final = 65_535
_CONTROL_OF_FOLDERS: Final = re.compile(r"[\x00-\x1f\x7f]")


def refuse_address(email: str) -> Refusal | None:
    """The refusal of an address, None if it is acceptable."""
    if not email:
        return Refusal("invalid_field", zh.BOTH_NEEDED, "email")
    return None if is_address(email) else Refusal("invalid_field", zh.NO_ADDRESS, "email")


def refuse_settings(
    providers: Providers, mail_type: str | None, server: str, port: int | None
) -> Refusal | None:
    """The refusal of a type, server or port, None if all that are given are acceptable."""
    if mail_type is not None and mail_type not in providers.names:
        return Refusal("invalid_field", zh.NO_SUCH_TYPE, "mail_type")
    if port is not None and not 1 <= port <= _PORT_MAX:
        return Refusal("invalid_field", zh.NO_PORT, "port")
    if server.strip():
        try:
            host_name(server)
        except HostRefused:
            return Refusal("invalid_field", zh.NO_SERVER, "server")
    return None


def refuse_elsewhere(providers: Providers, mail_type: str, email: str, server: str) -> Refusal | None:
    """The refusal of an address of one provider as a mailbox of another, which would get its password.

    Accounts of Microsoft may have any address.
    """
    own = providers.type_of(email)
    if own in (None, mail_type) or mail_type in ("imap", "outlook") or mail_type not in BUILT_IN:
        return None
    return None if server.strip() else Refusal("invalid_field", zh.OTHER_TYPE.format(own, own), "mail_type")


def refuse_folders(folders: Sequence[str]) -> Refusal | None:
    """The refusal of folders to read, None if all may be names of folders."""
    for name in folders:
        if not 0 < len(name) <= FOLDER_CHARS_MAX or _CONTROL_OF_FOLDERS.search(name):
            return Refusal("invalid_field", zh.FOLDER_NAME.format(FOLDER_CHARS_MAX), "folders")
    return None


def refuse_secrets(secrets: Mapping[str, Secret]) -> Refusal | None:
    """The refusal of secrets that no login can use, None if all are acceptable."""
    for name, secret in secrets.items():
        value = secret.reveal()
        if len(value) > SECRET_CHARS_MAX or any(char in value for char in "\r\n\0"):
            return Refusal("invalid_field", zh.FIELD_CONTENT, name)
        if name == "proxy":
            try:
                parse_proxy(value)
            except ValueError as error:
                return Refusal("invalid_field", zh.NO_PROXY, f"proxy: {error}")
    return None


def refuse_missing(providers: Providers, mail_type: str, secrets: Mapping[str, Secret]) -> Refusal | None:
    """The refusal of secrets that do not suffice to sign in with this type, None if they do."""
    provider = providers.of(mail_type)
    grant = "refresh_token" in secrets and ("client_id" in secrets or bool(provider.client_id))
    if auth_of(provider, password="password" in secrets, grant=grant) is not None:
        return None
    if mail_type == "outlook":
        return Refusal("invalid_field", zh.OUTLOOK_GRANT)
    if provider.auth in TOKENS:
        return Refusal("invalid_field", zh.GRANT_NEEDED, "refresh_token")
    return Refusal("invalid_field", zh.BOTH_NEEDED, "password")


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
