"""The roster of a user decides every command that spans mailboxes. Pure.

It folds `user/<id>`, to which the mailboxes write too. So each append expects the head of `roster/<id>`,
which only the roster writes, and those of the mailbox streams that it concerns. If the roster or a mailbox
commits between the decision and the append, the append conflicts and the roster decides again on the new
state.

A change of what mailboxes there are moves the head of `roster/<id>`. Requests and cancellations of checks
move only the heads of their mailboxes: two of them collide there.

What one decision of a roster writes: events, rows, secrets and effects. Pure.

Commands that need nothing but what the client sends are decoded from its message as they stand here. A
violation of a rule is a `Refusal`. A user writes labels, and they are events: they stay in the log after
the mailbox is gone, so no label should hold a secret.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from huahuo.actors.entities.decider import Context, Decision
from huahuo.actors.plugins.actions import Id
from huahuo.actors.plugins.calls import Refusal, carried
from huahuo.eventstore.model import RowDrop, RowPut, Secret, SecretPut
from huahuo.mailcheck import events, records, zh
from huahuo.mailcheck.roster.importer import Account, ImportData, is_address
from huahuo.mailcheck.roster.state import Roster, RosterFold
from huahuo.mailcheck.servers.faults import HostRefused
from huahuo.mailcheck.servers.providers import (
    BUILT_IN,
    STANDARD,
    TOKENS,
    Endpoint,
    Providers,
    auth_of,
    host_name,
    parse_proxy,
)
from huahuo.mailcheck.writing import Writing

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


def changes_of(row: records.Row, labels: Labels) -> dict[str, tuple[str, ...] | str]:
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


def _plain(row: records.Row) -> tuple[tuple[str, ...], str, str]:
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

    def admits(self, row: records.Row) -> bool:
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


IDS_MAX: Final = 1_000
MAILBOXES_MAX: Final = 100_000


class RosterDecider(RosterFold):
    """A roster's decisions. `mailboxes_max` bounds the mailboxes of one user; `providers` is the table."""

    guarded: Final = False
    """By its own stream it is not: each decision is guarded by `roster/<id>`."""

    def __init__(
        self,
        *,
        ids_max: int = IDS_MAX,
        mailboxes_max: int = MAILBOXES_MAX,
        providers: Providers = STANDARD,
    ) -> None:
        self.providers = providers
        self.ids_max = ids_max
        self.mailboxes_max = mailboxes_max

    def decide(
        self, state: Roster, command: RosterCommand, context: Context
    ) -> Decision[records.MailReply, events.Effect]:
        """See `Decider`."""
        return _Deciding(self, state, context).decision(command)


class _Deciding(Writing):
    """One decision: what it answers, and what it writes. It never changes the state."""

    def __init__(self, by: RosterDecider, state: Roster, context: Context) -> None:
        super().__init__(state.user_id, context)
        self.state = state
        self._ids_max, self._mailboxes_max, self._providers = by.ids_max, by.mailboxes_max, by.providers
        guard = events.roster_stream(state.user_id)
        self._expected = {guard: context.head(guard)}
        self._changed = False
        self._shred: list[str] = []
        self._drop_secrets: list[tuple[str, str]] = []

    def decision(self, command: RosterCommand) -> Decision[records.MailReply, events.Effect]:
        """Everything, as one append, with the reply that a repeat of the command gets.

        It expects that the roster decided nothing else since the state, also if it only keeps a refusal.
        """
        reply = self._reply(command)
        if self._changed:
            self.events.append(events.guarding(self.user_id, self.now))
        return self.gathered(
            reply,
            record=records.encode(reply),
            expected=self._expected,
            drop_secrets=tuple(self._drop_secrets),
            shred=tuple(self._shred),
        )

    def _reply(self, command: RosterCommand) -> records.MailReply:
        match command:
            case AddEmail():
                return self._add(command)
            case UpdateEmail():
                return self._update(command)
            case ImportEmails():
                return self._import(command)
            case SetGroupProxy():
                return self._set_proxy(command)
            case ClaimMailbox():
                return self._claim(command)
            case ReleaseMailbox():
                return self._release(command)
            case CheckEmails() | CancelCheck() | DeleteEmails() | WatchEmails() | LabelEmails():
                return self._many(command)

    # -- new mailboxes ------------------------------------------------------------------------------

    def _add(self, command: AddEmail) -> records.MailReply:
        command = replace(command, email=command.email.strip())
        refusal = refuse_address(command.email) or self._refusal(command, command.mail_type)
        if refusal is not None:
            return refusal
        if command.email.lower() in self.state.addresses:
            return Refusal("already_exists", zh.MAY_EXIST.format(command.email))
        if len(self.state.rows) >= self._mailboxes_max:
            return Refusal("too_large", zh.MAILBOXES_MAX.format(self._mailboxes_max))
        email_id = self.context.take("mailbox", 1)
        self._new(email_id, command, command.mail_type)
        return records.Success(zh.MAILBOX_ADDED, email_id=email_id)

    def _import(self, command: ImportEmails) -> records.MailReply:
        state, data = self.state, command.data
        refusal = refuse_settings(self._providers, command.mail_type, "", None)
        if refusal is not None:
            return refusal
        failures = list(data.failures)
        taken: list[Account] = []
        for account in data.accounts:
            fault = self._refusal(account, account.mail_type or command.mail_type)
            if fault is not None:
                failures.append(records.LineFailure(account.line, fault.message))
            elif account.email.lower() in state.addresses:
                failures.append(records.LineFailure(account.line, zh.ADDRESS_EXISTS))
            elif len(state.rows) + len(taken) >= self._mailboxes_max:
                failures.append(
                    records.LineFailure(account.line, zh.MAILBOXES_MAX.format(self._mailboxes_max))
                )
            else:
                taken.append(account)
        first = self.context.take("mailbox", len(taken)) if taken else 0
        hosts = [
            (email_id, self._new(email_id, account, account.mail_type or command.mail_type))
            for email_id, account in enumerate(taken, start=first)
        ]
        if command.validate and hosts:
            first_check = self.context.take("check", len(hosts))
            for check_id, (email_id, host) in enumerate(hosts, start=first_check):
                self._request(email_id, check_id, host, login=command.validate == "login")
        failures.sort(key=lambda failure: failure.line)
        return records.ImportResult(data.total, len(taken), len(failures), failures)

    def _refusal(self, given: AddEmail | Account, kind: str) -> Refusal | None:
        return (
            refuse_settings(self._providers, kind, given.server, given.port)
            or refuse_elsewhere(self._providers, kind, given.email, given.server)
            or refuse_secrets(given.secrets)
            or refuse_missing(self._providers, kind, given.secrets)
        )

    def _new(self, email_id: int, given: AddEmail | Account, kind: str) -> str:
        """Add a mailbox with its sealed secrets. Its host."""
        where = self._providers.endpoint(
            kind, given.email, server=given.server, port=given.port, use_ssl=given.use_ssl
        )
        owner = events.mailbox_stream(email_id)
        self.secrets += [SecretPut(owner, name, secret) for name, secret in given.secrets.items()]
        self._expected[owner] = 0
        self._changed = True
        reached: dict[str, Any] = {
            "email": given.email,
            "mail_type": kind,
            "server": where.host,
            "port": where.port,
            "use_ssl": where.use_ssl,
        }
        names = tuple(given.secrets)
        self.say(email_id, events.EmailAdded(timestamp=self.now, email_id=email_id, **reached))
        self.fact(
            email_id, events.MailboxAdded(timestamp=self.now, user_id=self.user_id, secrets=names, **reached)
        )
        return where.host

    # -- changes of one mailbox, or of a group -------------------------------------------------------

    def _update(self, command: UpdateEmail) -> records.MailReply:
        row = self.state.rows.get(command.email_id)
        if row is None:
            return Refusal("not_found", zh.NO_MAILBOX.format(command.email_id))
        mail_type, secrets = command.mail_type or row.mail_type, command.secrets
        refusal = refuse_settings(
            self._providers, command.mail_type, command.server, command.port
        ) or refuse_secrets(secrets)
        if refusal is None and mail_type != row.mail_type:
            # Another type needs other secrets, and the sealed ones cannot be read here, so all must be given.
            refusal = refuse_missing(self._providers, mail_type, secrets)
        folders = command.folders
        if refusal is None and folders:
            folders = tuple(dict.fromkeys(name.strip() for name in folders))
            refusal = refuse_folders(folders)
        where = self._moved(row, mail_type, command)
        moves = self._is_elsewhere(row, mail_type, where)
        if refusal is None and moves and refuse_missing(self._providers, mail_type, secrets):
            refusal = Refusal("invalid_field", zh.SERVER_NEEDS_SECRETS, "server")
        if refusal is not None:
            return refusal
        if moves:  # what the mailbox signs in with is destroyed, unless it is given anew
            owner = events.mailbox_stream(row.id)
            self._drop_secrets += [(owner, name) for name in SIGN_IN_SECRETS if name not in secrets]
        self._change(row, mail_type, where, secrets, folders)
        return records.Success(zh.MAILBOX_UPDATED, email_id=row.id)

    def _change(
        self,
        row: records.Row,
        mail_type: str,
        where: Endpoint,
        secrets: Mapping[str, Secret],
        folders: tuple[str, ...] | UnsetType | None,
    ) -> None:
        """Change settings. If the endpoint changes, an open check of the old one is cancelled first."""
        before: tuple[Any, ...] = (row.mail_type, row.server, row.port, row.use_ssl)
        after: tuple[Any, ...] = (mail_type, where.host, where.port, where.use_ssl)
        if folders == (None if row.folders is UNSET else row.folders):
            folders = UNSET
        if before == after and not secrets and folders is UNSET:
            return
        self._expect(row.id)
        self._changed = True
        if before != after:
            self._cancel(row.id)
        names = ("mail_type", "server", "port", "use_ssl")
        changed: dict[str, Any] = {
            name: new for name, old, new in zip(names, before, after, strict=True) if old != new
        }
        self.say(row.id, events.EmailUpdated(timestamp=self.now, email_id=row.id, folders=folders, **changed))
        if folders is not UNSET:
            self.fact(row.id, events.FoldersChosen(timestamp=self.now, folders=folders))
        if changed:
            self.fact(
                row.id, events.MailboxUpdated(timestamp=self.now, **dict(zip(names, after, strict=True)))
            )
        for name, secret in secrets.items():
            self.fact(row.id, events.SecretStored(timestamp=self.now, name=name))
            self.secrets.append(SecretPut(events.mailbox_stream(row.id), name, secret))
        if row.watched:
            self._watch(row.id, where.host)

    def _is_elsewhere(self, row: records.Row, mail_type: str, where: Endpoint) -> bool:
        """Whether the sealed secrets would be sent to a host for which nobody gave them.

        Who holds a session or a key, but not the secrets, could name a server of their own and read them
        there. The hosts of the table are the operator's.
        """
        if where.host.lower() == row.server.lower():
            return False
        places = self._providers.places(mail_type, where.host, where.port, use_ssl=where.use_ssl)
        return not places[0].listed

    def _moved(self, row: records.Row, mail_type: str, command: UpdateEmail) -> Endpoint:
        """The endpoint after an update. A new type without a server gets the default of that type."""
        if mail_type != row.mail_type and not command.server.strip():
            return self._providers.endpoint(mail_type, row.email, port=command.port, use_ssl=command.use_ssl)
        return Endpoint(
            command.server.strip() or row.server,
            row.port if command.port is None else command.port,
            row.use_ssl if command.use_ssl is None else command.use_ssl,
        )

    def _set_proxy(self, command: SetGroupProxy) -> records.MailReply:
        """Seal the proxy of a group, or drop it. Checks read it when they sign in, so none is disturbed."""
        group, proxy = command.group.strip(), command.proxy
        refusal = refuse_group(group) or (None if proxy is None else refuse_secrets({"proxy": proxy}))
        if refusal is not None:
            return refusal
        part, owner, name = str(self.user_id), events.roster_stream(self.user_id), records.group_secret(group)
        if proxy is None:
            self._drop_secrets.append((owner, name))
            self.rows.append(RowDrop(records.GROUP_PROXIES, part, records.group_key(group)))
        else:
            self.secrets.append(SecretPut(owner, name, proxy))
            self.rows.append(RowPut(records.GROUP_PROXIES, part, records.group_key(group), group.encode()))
        fact = events.GroupProxySet(timestamp=self.now, group=group, on=proxy is not None)
        self.events.append(events.of_roster(self.user_id, fact))
        self.effects += [
            events.Watch(row.id, row.server)
            for row in self.state.rows.values()
            if row.watched and row.group == group
        ]
        return records.Success(zh.GROUP_PROXY_TAKEN if proxy is None else zh.GROUP_PROXY_SET)

    def _claim(self, command: ClaimMailbox) -> records.MailReply:
        rows = self.state.rows.values()
        row = next((row for row in rows if not row.claimed(self.now) and command.admits(row)), None)
        if row is None:
            return Refusal("not_found", zh.NONE_FREE)
        local, _, domain = row.email.rpartition("@")
        address = f"{local}+{command.alias}@{domain}" if command.alias else row.email
        until = records.rfc3339(self.context.now_ms + command.seconds * 1000)
        self._label(row.id, {"claim": events.Claim(address, self.now, until)})
        return records.Success(
            zh.CLAIMED.format(address, until), email_id=row.id, address=address, until=until
        )

    def _release(self, command: ReleaseMailbox) -> records.MailReply:
        row = self.state.rows.get(command.email_id)
        if row is None:
            return Refusal("not_found", zh.NO_MAILBOX.format(command.email_id))
        if row.claim is not UNSET:
            self._label(row.id, {"claim": None})
        return records.Success(zh.RELEASED.format(row.email), email_id=row.id)

    # -- many mailboxes -------------------------------------------------------------------------------

    def _many(
        self, command: CheckEmails | CancelCheck | DeleteEmails | WatchEmails | LabelEmails
    ) -> records.MailReply:
        if not command.email_ids:
            return Refusal("invalid_field", zh.NO_IDS, "email_ids")
        if len(command.email_ids) > self._ids_max:
            return Refusal("too_large", zh.IDS_MAX.format(self._ids_max), "email_ids")
        ids, rows = dict.fromkeys(command.email_ids), self.state.rows
        owned = [i for i in ids if i in rows]
        match command:
            case DeleteEmails():
                for email_id in owned:
                    self._delete(email_id)
                return records.Success(zh.DELETED.format(len(owned)), email_ids=owned)
            case CancelCheck():
                cancelled = [i for i in owned if self._cancel(i)]
                return records.Success(zh.CANCELLED.format(len(cancelled)), cancelled=cancelled)
            case CheckEmails():
                return self._check(owned, login=command.login)
            case LabelEmails():
                return self._label_all(owned, tidied(command.labels))
            case WatchEmails(_, on):
                for email_id in owned:
                    if rows[email_id].watched != on:
                        self._label(email_id, {"watched": on})
                        (self._watch if on else self._unwatch)(email_id, rows[email_id].server)
                return watched(owned, [i for i in ids if i not in rows], on=on)

    def _delete(self, email_id: int) -> None:
        """Delete the mailbox: cancel its check, destroy its key, and purge its mails afterwards (`Purge`)."""
        self._expect(email_id)
        self._changed = True
        self._cancel(email_id)
        row = self.state.rows[email_id]
        if row.watched:
            self._unwatch(email_id, row.server)
        self.say(email_id, events.EmailDeleted(timestamp=self.now, email_id=email_id))
        self.fact(email_id, events.MailboxDeleted(timestamp=self.now))
        self._shred.append(events.mailbox_stream(email_id))
        self.rows.append(RowPut(records.PURGES, "", records.email_key(email_id), b"{}"))
        self.effects.append(events.Purge(email_id))

    def _check(self, owned: Sequence[int], *, login: bool) -> records.MailReply:
        if not owned:
            return Refusal("not_found", zh.NONE_TO_CHECK)
        skipped = [i for i in owned if i in self.state.checks]
        accepted = [i for i in owned if i not in self.state.checks]
        if not accepted:
            return records.Warned(zh.ALL_BUSY, accepted=[], skipped=skipped)
        first = self.context.take("check", len(accepted))
        for check_id, email_id in enumerate(accepted, start=first):
            self._expect(email_id)
            self._request(email_id, check_id, self.state.rows[email_id].server, login=login)
        return records.Success(zh.CHECKING.format(len(accepted)), accepted=accepted, skipped=skipped)

    def _label_all(self, owned: Sequence[int], labels: Labels) -> records.MailReply:
        refusal = refuse_labels(labels)
        if refusal is not None:
            return refusal
        changes = {email_id: changes_of(self.state.rows[email_id], labels) for email_id in owned}
        full = [email_id for email_id, changed in changes.items() if too_many(changed)]
        touched = [email_id for email_id, changed in changes.items() if changed and email_id not in full]
        for email_id in touched:
            self._label(email_id, changes[email_id])
        if full:
            made = records.Success if touched else records.Warned
            return made(zh.TAGS.format(TAGS_MAX), email_ids=touched, skipped=full)
        return records.Success(zh.LABELLED.format(len(touched)), email_ids=touched)

    # -- what several of them write -------------------------------------------------------------------

    def _label(self, email_id: int, changed: Mapping[str, Any]) -> None:
        """Change what concerns no check, so only the roster's own stream guards it."""
        self._changed = True
        self.say(email_id, events.EmailUpdated(timestamp=self.now, email_id=email_id, **changed))

    def _watch(self, email_id: int, host: str) -> None:
        self.rows.append(records.watched_put(email_id, host))
        self.effects.append(events.Watch(email_id, host))

    def _unwatch(self, email_id: int, _host: str) -> None:
        self.rows.append(RowDrop(records.WATCHED, "", records.email_key(email_id)))
        self.effects.append(events.Unwatch(email_id))

    def _request(self, email_id: int, check_id: int, host: str, *, login: bool) -> None:
        """Queue a check. `login`: it only signs in."""
        self.status(email_id, check_id, "queued", zh.CHECK_QUEUED)
        self.fact(email_id, events.CheckRequested(timestamp=self.now, check_id=check_id))
        user_id, trace = self.user_id, carried(self.context.command_id)
        self.rows.append(records.check_put(email_id, user_id, check_id, host=host, login=login, trace=trace))
        self.effects.append(events.StartCheck(email_id, check_id, host, user_id, login, trace))

    def _cancel(self, email_id: int) -> bool:
        """Cancel the open check of the mailbox. False if it has none."""
        check_id = self.state.checks.get(email_id)
        if check_id is None:
            return False
        self._expect(email_id)
        self.end(email_id, check_id, "cancelled", zh.CHECK_CANCELLED)
        self.effects.append(events.StopCheck(check_id))
        return True

    def _expect(self, email_id: int) -> None:
        stream = events.mailbox_stream(email_id)
        self._expected[stream] = self.context.head(stream)


def watched(accepted: list[int], refused: list[int], *, on: bool) -> records.Success:
    """The reply to `watch_emails`."""
    message = (zh.WATCH_ON if on else zh.WATCH_OFF).format(len(accepted))
    return records.Success(message, accepted=accepted, refused=refused)
