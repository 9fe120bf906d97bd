"""What one decision of a roster writes: events, rows, secrets and effects. Pure."""

from collections.abc import Container, Iterable, Mapping
from typing import Any, Final

from msgspec import UNSET, UnsetType

from huahuo.actors.entities.decider import Context, Decision
from huahuo.actors.plugins.traceparent import carried
from huahuo.eventstore.model import NewEvent, RowDrop, RowPut, Secret, SecretPut
from huahuo.mailcheck.effects import Effect, Purge, StartCheck, StopCheck, Unwatch, Watch
from huahuo.mailcheck.events import (
    PROGRESS_MAX,
    Body,
    CheckEnded,
    CheckProgress,
    CheckRequested,
    EmailAdded,
    EmailDeleted,
    EmailStatusUpdate,
    EmailUpdated,
    FoldersChosen,
    GroupProxySet,
    MailboxAdded,
    MailboxDeleted,
    MailboxUpdated,
    SecretStored,
)
from huahuo.mailcheck.replies import MailReply, encode
from huahuo.mailcheck.roster.rules import SIGN_IN_SECRETS
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.row import Row
from huahuo.mailcheck.servers.providers import Endpoint
from huahuo.mailcheck.stored_events import guarding, internal, of_roster, public
from huahuo.mailcheck.streams import mailbox_stream, roster_stream, user_stream
from huahuo.mailcheck.tables.records import (
    CHECKS,
    GROUP_PROXIES,
    PURGES,
    WATCHED,
    check_put,
    email_key,
    group_key,
    group_secret,
    watched_put,
)
from huahuo.mailcheck.words import zh

_CANCELLED: Final = zh.CHECK_CANCELLED


class RosterWriting:
    """Gathers what one decision writes. It never changes the state."""

    def __init__(self, state: Roster, context: Context) -> None:
        self.state = state
        self.context = context
        self._events: list[NewEvent] = []
        self._effects: list[Effect] = []
        guard = roster_stream(state.user_id)
        self._expected = {guard: context.head(guard)}
        self._changed = False
        self._rows: list[RowPut | RowDrop] = []
        self._secrets: list[SecretPut] = []
        self._shred: list[str] = []
        self._drop_secrets: list[tuple[str, str]] = []

    def decision(self, reply: MailReply) -> Decision[MailReply, Effect]:
        """Everything gathered, as one append, with the reply that a repeat of the command gets.

        It expects that the roster decided nothing else since the state, also if it only keeps a refusal.
        """
        if self._changed:
            self._events.append(guarding(self.state.user_id, self.context.timestamp))
        return Decision(
            reply=reply,
            record=encode(reply),
            at_stream=user_stream(self.state.user_id),
            events=tuple(self._events),
            effects=tuple(self._effects),
            expected=self._expected,
            rows=tuple(self._rows),
            secrets=tuple(self._secrets),
            drop_secrets=tuple(self._drop_secrets),
            shred=tuple(self._shred),
        )

    def add(
        self,
        email_id: int,
        email: str,
        mail_type: str,
        where: Endpoint,
        secrets: Iterable[tuple[str, Secret]],
    ) -> None:
        """Add a new mailbox with its sealed secrets."""
        user_id, now = self.state.user_id, self.context.timestamp
        owner = mailbox_stream(email_id)
        sealed = [SecretPut(owner, name, secret) for name, secret in secrets]
        self._secrets += sealed
        self._expected[owner] = 0
        reached: dict[str, Any] = {
            "email": email,
            "mail_type": mail_type,
            "server": where.host,
            "port": where.port,
            "use_ssl": where.use_ssl,
        }
        added = EmailAdded(timestamp=now, email_id=email_id, **reached)
        names = tuple(put.name for put in sealed)
        fact = MailboxAdded(timestamp=now, user_id=user_id, secrets=names, **reached)
        self._say(email_id, added)
        self._fact(email_id, fact)
        self._changed = True

    def update(
        self,
        row: Row,
        mail_type: str,
        where: Endpoint,
        secrets: Iterable[tuple[str, Secret]],
        folders: tuple[str, ...] | UnsetType | None = UNSET,
    ) -> None:
        """Change settings. If the endpoint changes, an open check of the old one is cancelled first."""
        now = self.context.timestamp
        before: tuple[Any, ...] = (row.mail_type, row.server, row.port, row.use_ssl)
        after: tuple[Any, ...] = (mail_type, where.host, where.port, where.use_ssl)
        sealed = [SecretPut(mailbox_stream(row.id), name, secret) for name, secret in secrets]
        chosen = None if row.folders is UNSET else row.folders
        if folders == chosen:
            folders = UNSET
        if before == after and not sealed and folders is UNSET:
            return
        self._expect(row.id)
        self._changed = True
        if before != after:
            self.cancel(row.id)
        names = ("mail_type", "server", "port", "use_ssl")
        changed: dict[str, Any] = {
            name: new for name, old, new in zip(names, before, after, strict=True) if old != new
        }
        self._say(row.id, EmailUpdated(timestamp=now, email_id=row.id, folders=folders, **changed))
        if folders is not UNSET:
            self._fact(row.id, FoldersChosen(timestamp=now, folders=folders))
        if changed:
            self._fact(row.id, MailboxUpdated(timestamp=now, **dict(zip(names, after, strict=True))))
        for put in sealed:
            self._fact(row.id, SecretStored(timestamp=now, name=put.name))
        self._secrets += sealed
        if row.watched:
            self._watch(row.id, where.host)

    def drop_secrets(self, email_id: int, *, without: Container[str]) -> None:
        """Destroy what a mailbox signs in with, `without` those that are given anew."""
        owner = mailbox_stream(email_id)
        self._drop_secrets += [(owner, name) for name in SIGN_IN_SECRETS if name not in without]

    def watch(self, row: Row, *, on: bool) -> None:
        """Switch the watching of a mailbox on or off."""
        if row.watched == on:
            return
        self._changed = True
        self._say(row.id, EmailUpdated(timestamp=self.context.timestamp, email_id=row.id, watched=on))
        if on:
            self._watch(row.id, row.server)
        else:
            self._unwatch(row.id)

    def _watch(self, email_id: int, host: str) -> None:
        self._rows.append(watched_put(email_id, host))
        self._effects.append(Watch(email_id, host))

    def _unwatch(self, email_id: int) -> None:
        self._rows.append(RowDrop(WATCHED, "", email_key(email_id)))
        self._effects.append(Unwatch(email_id))

    def label(self, email_id: int, changed: Mapping[str, Any]) -> None:
        """Change labels. They concern no check, so only the roster's own stream guards them."""
        self._changed = True
        self._say(email_id, EmailUpdated(timestamp=self.context.timestamp, email_id=email_id, **changed))

    def group_proxy(self, group: str, proxy: Secret | None) -> None:
        """Seal the proxy of a group, or drop it. Checks read it when they sign in, so none is disturbed."""
        user_id = self.state.user_id
        owner, name = roster_stream(user_id), group_secret(group)
        if proxy is None:
            self._drop_secrets.append((owner, name))
            self._rows.append(RowDrop(GROUP_PROXIES, str(user_id), group_key(group)))
        else:
            self._secrets.append(SecretPut(owner, name, proxy))
            self._rows.append(RowPut(GROUP_PROXIES, str(user_id), group_key(group), group.encode()))
        fact = GroupProxySet(timestamp=self.context.timestamp, group=group, on=proxy is not None)
        self._events.append(of_roster(user_id, fact))
        for row in self.state.rows.values():
            if row.watched and row.group == group:
                self._effects.append(Watch(row.id, row.server))

    def request(self, email_id: int, check_id: int, host: str | None = None, *, login: bool = False) -> None:
        """Queue a check. `host`: of a mailbox that this decision adds. `login`: it only signs in."""
        now = self.context.timestamp
        if host is None:
            host = self.state.rows[email_id].server
            self._expect(email_id)
        self._status(email_id, check_id, "queued", zh.CHECK_QUEUED)
        self._fact(email_id, CheckRequested(timestamp=now, check_id=check_id))
        user_id, trace = self.state.user_id, carried(self.context.command_id)
        self._rows.append(check_put(email_id, user_id, check_id, host=host, login=login, trace=trace))
        self._effects.append(StartCheck(email_id, check_id, host, user_id, login, trace))

    def cancel(self, email_id: int) -> bool:
        """Cancel the open check of the mailbox. False if it has none."""
        check_id = self.state.checks.get(email_id)
        if check_id is None:
            return False
        now = self.context.timestamp
        self._expect(email_id)
        self._say(
            email_id,
            CheckProgress(
                timestamp=now,
                email_id=email_id,
                progress=PROGRESS_MAX,
                message=_CANCELLED,
                check_id=check_id,
            ),
        )
        self._status(email_id, check_id, "cancelled", _CANCELLED)
        self._fact(email_id, CheckEnded(timestamp=now, check_id=check_id, status="cancelled"))
        self._rows.append(RowDrop(CHECKS, "", email_key(email_id)))
        self._effects.append(StopCheck(check_id))
        return True

    def delete(self, email_id: int) -> None:
        """Delete the mailbox: cancel its check, destroy its key, and purge its mails afterwards (`Purge`)."""
        now = self.context.timestamp
        self._expect(email_id)
        self._changed = True
        self.cancel(email_id)
        if self.state.rows[email_id].watched:
            self._unwatch(email_id)
        self._say(email_id, EmailDeleted(timestamp=now, email_id=email_id))
        self._fact(email_id, MailboxDeleted(timestamp=now))
        self._shred.append(mailbox_stream(email_id))
        self._rows.append(RowPut(PURGES, "", email_key(email_id), b"{}"))
        self._effects.append(Purge(email_id))

    def _status(self, email_id: int, check_id: int, status: str, message: str) -> None:
        self._say(
            email_id,
            EmailStatusUpdate(
                timestamp=self.context.timestamp,
                email_id=email_id,
                status=status,
                message=message,
                check_id=check_id,
            ),
        )

    def _say(self, email_id: int, body: Body) -> None:
        self._events.append(public(self.state.user_id, email_id, body))

    def _fact(self, email_id: int, body: Body) -> None:
        self._events.append(internal(email_id, body))

    def _expect(self, email_id: int) -> None:
        stream = mailbox_stream(email_id)
        self._expected[stream] = self.context.head(stream)
