"""The roster of a user decides every command that spans mailboxes. Pure.

It folds `user/<id>`, to which the mailboxes write too. So each append expects the head of `roster/<id>`,
which only the roster writes, and those of the mailbox streams that it concerns. If the roster or a mailbox
commits between the decision and the append, the append conflicts and the roster decides again on the new
state.

A change of what mailboxes there are moves the head of `roster/<id>`. Requests and cancellations of checks
move only the heads of their mailboxes: two of them collide there.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import UNSET

from huahuo.actors.entities.decider import Context, Decision
from huahuo.actors.plugins.calls import Refusal
from huahuo.mailcheck.claim import Claim
from huahuo.mailcheck.effects import Effect
from huahuo.mailcheck.replies import ImportResult, LineFailure, MailReply, Success, Warned
from huahuo.mailcheck.roster.commands import (
    AddEmail,
    CancelCheck,
    CheckEmails,
    ClaimMailbox,
    DeleteEmails,
    ImportEmails,
    LabelEmails,
    ReleaseMailbox,
    RosterCommand,
    SetGroupProxy,
    UpdateEmail,
    WatchEmails,
)
from huahuo.mailcheck.roster.importer import Account
from huahuo.mailcheck.roster.labels import (
    TAGS_MAX,
    Labels,
    changes_of,
    refuse_group,
    refuse_labels,
    tidied,
    too_many,
)
from huahuo.mailcheck.roster.rules import (
    refuse_address,
    refuse_elsewhere,
    refuse_folders,
    refuse_missing,
    refuse_secrets,
    refuse_settings,
)
from huahuo.mailcheck.roster.state import Roster, RosterFold
from huahuo.mailcheck.roster.writing import RosterWriting
from huahuo.mailcheck.row import Row
from huahuo.mailcheck.servers.providers import STANDARD, Endpoint, Providers
from huahuo.mailcheck.tables.records import rfc3339
from huahuo.mailcheck.words import zh

IDS_MAX: Final = 1_000
MAILBOXES_MAX: Final = 100_000


class RosterDecider(RosterFold):
    """A roster's decisions. `mailboxes_max` bounds the mailboxes of one user; `providers` is the table."""

    guarded: Final = False
    """By its own stream it is not: `RosterWriting` guards each decision by `roster/<id>`."""

    def __init__(
        self,
        *,
        ids_max: int = IDS_MAX,
        mailboxes_max: int = MAILBOXES_MAX,
        providers: Providers = STANDARD,
    ) -> None:
        self._providers = providers
        self._ids_max = ids_max
        self._mailboxes_max = mailboxes_max

    def decide(self, state: Roster, command: RosterCommand, context: Context) -> Decision[MailReply, Effect]:
        """See `Decider`."""
        writing = RosterWriting(state, context)
        match command:
            case AddEmail():
                reply = self._add(writing, command)
            case UpdateEmail():
                reply = self._update(writing, command)
            case ImportEmails():
                reply = self._import(writing, command)
            case SetGroupProxy():
                reply = _set_proxy(writing, command)
            case ClaimMailbox():
                reply = _claim(writing, command)
            case ReleaseMailbox():
                reply = _release(writing, command)
            case CheckEmails() | CancelCheck() | DeleteEmails() | WatchEmails() | LabelEmails():
                reply = self._many(writing, command)
        return writing.decision(reply)

    def _add(self, writing: RosterWriting, command: AddEmail) -> MailReply:
        state = writing.state
        email = command.email.strip()
        refusal = (
            refuse_address(email)
            or refuse_settings(self._providers, command.mail_type, command.server, command.port)
            or refuse_elsewhere(self._providers, command.mail_type, email, command.server)
            or refuse_secrets(command.secrets)
            or refuse_missing(self._providers, command.mail_type, command.secrets)
        )
        if refusal is not None:
            return refusal
        if email.lower() in state.addresses:
            return Refusal("already_exists", zh.MAY_EXIST.format(email))
        if len(state.rows) >= self._mailboxes_max:
            return _full(self._mailboxes_max)
        where = self._providers.endpoint(
            command.mail_type,
            email,
            server=command.server,
            port=command.port,
            use_ssl=command.use_ssl,
        )
        email_id = writing.context.take("mailbox", 1)
        writing.add(email_id, email, command.mail_type, where, command.secrets.items())
        return Success(zh.MAILBOX_ADDED, email_id=email_id)

    def _import(self, writing: RosterWriting, command: ImportEmails) -> MailReply:
        state, data = writing.state, command.data
        refusal = refuse_settings(self._providers, command.mail_type, "", None)
        if refusal is not None:
            return refusal
        failures = list(data.failures)
        taken: list[Account] = []
        for account in data.accounts:
            kind = account.mail_type or command.mail_type
            fault = (
                refuse_settings(self._providers, kind, account.server, account.port)
                or refuse_elsewhere(self._providers, kind, account.email, account.server)
                or refuse_secrets(account.secrets)
                or refuse_missing(self._providers, kind, account.secrets)
            )
            if fault is not None:
                failures.append(LineFailure(account.line, fault.message))
            elif account.email.lower() in state.addresses:
                failures.append(LineFailure(account.line, zh.ADDRESS_EXISTS))
            elif len(state.rows) + len(taken) >= self._mailboxes_max:
                failures.append(LineFailure(account.line, _full(self._mailboxes_max).message))
            else:
                taken.append(account)
        first = writing.context.take("mailbox", len(taken)) if taken else 0
        hosts: list[tuple[int, str]] = []
        for email_id, account in enumerate(taken, start=first):
            kind = account.mail_type or command.mail_type
            where = self._providers.endpoint(
                kind, account.email, server=account.server, port=account.port, use_ssl=account.use_ssl
            )
            writing.add(email_id, account.email, kind, where, account.secrets.items())
            hosts.append((email_id, where.host))
        if command.validate and hosts:
            first_check = writing.context.take("check", len(hosts))
            for check_id, (email_id, host) in enumerate(hosts, start=first_check):
                writing.request(email_id, check_id, host, login=command.validate == "login")
        failures.sort(key=lambda failure: failure.line)
        return ImportResult(data.total, len(taken), len(failures), failures)

    def _many(
        self,
        writing: RosterWriting,
        command: CheckEmails | CancelCheck | DeleteEmails | WatchEmails | LabelEmails,
    ) -> MailReply:
        if not command.email_ids:
            return Refusal("invalid_field", zh.NO_IDS, "email_ids")
        if len(command.email_ids) > self._ids_max:
            return Refusal("too_large", zh.IDS_MAX.format(self._ids_max), "email_ids")
        owned = [i for i in dict.fromkeys(command.email_ids) if i in writing.state.rows]
        match command:
            case DeleteEmails():
                for email_id in owned:
                    writing.delete(email_id)
                return Success(zh.DELETED.format(len(owned)), email_ids=owned)
            case CancelCheck():
                cancelled = [i for i in owned if writing.cancel(i)]
                return Success(zh.CANCELLED.format(len(cancelled)), cancelled=cancelled)
            case CheckEmails():
                return _check(writing, owned, login=command.login)
            case LabelEmails():
                return _label(writing, owned, tidied(command.labels))
            case WatchEmails():
                for email_id in owned:
                    writing.watch(writing.state.rows[email_id], on=command.on)
                others = [i for i in dict.fromkeys(command.email_ids) if i not in writing.state.rows]
                return watched(owned, others, on=command.on)

    def _update(self, writing: RosterWriting, command: UpdateEmail) -> MailReply:
        row = writing.state.rows.get(command.email_id)
        if row is None:
            return Refusal("not_found", zh.NO_MAILBOX.format(command.email_id))
        mail_type = command.mail_type or row.mail_type
        refusal = refuse_settings(
            self._providers, command.mail_type, command.server, command.port
        ) or refuse_secrets(command.secrets)
        if refusal is None and mail_type != row.mail_type:
            # Another type needs other secrets, and the sealed ones cannot be read here, so all must be given.
            refusal = refuse_missing(self._providers, mail_type, command.secrets)
        folders = command.folders
        if refusal is None and folders:
            folders = tuple(dict.fromkeys(name.strip() for name in folders))
            refusal = refuse_folders(folders)
        where = self._moved(row, mail_type, command)
        moves = self._is_elsewhere(row, mail_type, where)
        if refusal is None and moves and refuse_missing(self._providers, mail_type, command.secrets):
            refusal = Refusal("invalid_field", zh.SERVER_NEEDS_SECRETS, "server")
        if refusal is not None:
            return refusal
        if moves:
            writing.drop_secrets(row.id, without=command.secrets)
        writing.update(row, mail_type, where, command.secrets.items(), folders)
        return Success(zh.MAILBOX_UPDATED, email_id=row.id)

    def _is_elsewhere(self, row: Row, mail_type: str, where: Endpoint) -> bool:
        """Whether the sealed secrets would be sent to a host for which nobody gave them.

        Who holds a session or a key, but not the secrets, could name a server of their own and read them
        there. The hosts of the table are the operator's.
        """
        if where.host.lower() == row.server.lower():
            return False
        places = self._providers.places(mail_type, where.host, where.port, use_ssl=where.use_ssl)
        return not places[0].listed

    def _moved(self, row: Row, mail_type: str, command: UpdateEmail) -> Endpoint:
        """The endpoint after an update. A new type without a server gets the default of that type."""
        if mail_type != row.mail_type and not command.server.strip():
            return self._providers.endpoint(mail_type, row.email, port=command.port, use_ssl=command.use_ssl)
        return Endpoint(
            command.server.strip() or row.server,
            row.port if command.port is None else command.port,
            row.use_ssl if command.use_ssl is None else command.use_ssl,
        )


def _label(writing: RosterWriting, owned: Sequence[int], labels: Labels) -> MailReply:
    refusal = refuse_labels(labels)
    if refusal is not None:
        return refusal
    changes = {email_id: changes_of(writing.state.rows[email_id], labels) for email_id in owned}
    full = [email_id for email_id, changed in changes.items() if too_many(changed)]
    touched = [email_id for email_id, changed in changes.items() if changed and email_id not in full]
    for email_id in touched:
        writing.label(email_id, changes[email_id])
    if full:
        made = Success if touched else Warned
        return made(zh.TAGS.format(TAGS_MAX), email_ids=touched, skipped=full)
    return Success(zh.LABELLED.format(len(touched)), email_ids=touched)


def _set_proxy(writing: RosterWriting, command: SetGroupProxy) -> MailReply:
    group = command.group.strip()
    refusal = refuse_group(group) or (
        None if command.proxy is None else refuse_secrets({"proxy": command.proxy})
    )
    if refusal is not None:
        return refusal
    writing.group_proxy(group, command.proxy)
    return Success(zh.GROUP_PROXY_TAKEN if command.proxy is None else zh.GROUP_PROXY_SET)


def _claim(writing: RosterWriting, command: ClaimMailbox) -> MailReply:
    context = writing.context
    rows = writing.state.rows.values()
    row = next((row for row in rows if not row.claimed(context.timestamp) and command.admits(row)), None)
    if row is None:
        return Refusal("not_found", zh.NONE_FREE)
    local, _, domain = row.email.rpartition("@")
    address = f"{local}+{command.alias}@{domain}" if command.alias else row.email
    claim = Claim(address, context.timestamp, rfc3339(context.now_ms + command.seconds * 1000))
    writing.label(row.id, {"claim": claim})
    return Success(
        zh.CLAIMED.format(address, claim.until), email_id=row.id, address=address, until=claim.until
    )


def _release(writing: RosterWriting, command: ReleaseMailbox) -> MailReply:
    row = writing.state.rows.get(command.email_id)
    if row is None:
        return Refusal("not_found", zh.NO_MAILBOX.format(command.email_id))
    if row.claim is not UNSET:
        writing.label(row.id, {"claim": None})
    return Success(zh.RELEASED.format(row.email), email_id=row.id)


def _check(writing: RosterWriting, owned: Sequence[int], *, login: bool) -> MailReply:
    if not owned:
        return Refusal("not_found", zh.NONE_TO_CHECK)
    skipped = [i for i in owned if i in writing.state.checks]
    accepted = [i for i in owned if i not in writing.state.checks]
    if not accepted:
        return Warned(zh.ALL_BUSY, accepted=[], skipped=skipped)
    first = writing.context.take("check", len(accepted))
    for check_id, email_id in enumerate(accepted, start=first):
        writing.request(email_id, check_id, login=login)
    return Success(zh.CHECKING.format(len(accepted)), accepted=accepted, skipped=skipped)


def watched(accepted: list[int], refused: list[int], *, on: bool) -> Success:
    """The reply to `watch_emails`."""
    message = (zh.WATCH_ON if on else zh.WATCH_OFF).format(len(accepted))
    return Success(message, accepted=accepted, refused=refused)


def _full(mailboxes_max: int) -> Refusal:
    return Refusal("too_large", zh.MAILBOXES_MAX.format(mailboxes_max))
