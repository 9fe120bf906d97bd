"""The durable effects of mail, checks and purges, and everything that reads mail servers, made once each.

What reads mail servers shares the network, the requests over HTTP, the access tokens, and the places at
each server. A purge removes the data of a deleted mailbox: records, the index of mail ids, contents. The
commit of a deletion adds a row to `purges`, which is dropped with the last page. A run that was cut short
is repeated and removes what is left, so nothing is claimed and no failure is recorded. For the user, the
mailbox is gone with the deletion itself.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec

from huahuo.actors.effects.books import Hold
from huahuo.actors.effects.facts import DONE, FAILED, OpenEffect
from huahuo.actors.effects.queue import Bounds, Entry, Failure, Spec
from huahuo.actors.effects.run import EffectRun
from huahuo.actors.effects.runner import Effects
from huahuo.actors.plugins.calls import UserId
from huahuo.actors.plugins.plugin import Lending
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import Append, RowDrop
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.bulk_commands import LINES_A_PART
from huahuo.mailcheck.api.contents import ManyMails, OneMail
from huahuo.mailcheck.api.rosters import Rosters
from huahuo.mailcheck.checks.backoff import Pace
from huahuo.mailcheck.checks.check import SigningInOnly, check
from huahuo.mailcheck.checks.check_effect import (
    CHECK,
    CheckBooks,
    Checking,
    CheckLimits,
    Environment,
)
from huahuo.mailcheck.checks.connections import Connections
from huahuo.mailcheck.checks.mailboxes import MAILBOX, Mailboxes
from huahuo.mailcheck.checks.sign_in import CheckMail, Gate, SigningIn, StoredGrants
from huahuo.mailcheck.checks.watchers import Looking
from huahuo.mailcheck.events import mailbox_stream, user_stream
from huahuo.mailcheck.records import (
    GRAPH,
    KNOWN,
    MAIL,
    MAILS,
    MISSING,
    PURGES,
    SOURCES,
    UNREAD,
    UNREAD_BODIES,
    MailPlace,
    MailRecord,
    OpenCheck,
    email_key,
    mail_key,
    number_of,
)
from huahuo.mailcheck.roster.decider import MAILBOXES_MAX
from huahuo.mailcheck.roster.importer import LINES_MAX
from huahuo.mailcheck.servers.graph import TIMEOUT_S as REQUEST_TIMEOUT_S
from huahuo.mailcheck.servers.graph import Requests
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.oauth import Tokens
from huahuo.mailcheck.servers.providers import Providers, Proxy


@dataclass(frozen=True, kw_only=True)
class MailSettings:
    """The bounds of the domain. `network` says what checks may connect to."""

    network: Network = field(default_factory=Network)
    check: CheckLimits = field(default_factory=CheckLimits)
    providers: Providers = field(default_factory=Providers)
    proxy: Proxy | None = None
    checks_max: int = 64
    checks_per_host_max: int = 8
    checks_waiting_max: int = 100_000
    """Queued checks kept in memory. More of them wait in the log until a sweep finds room."""
    checks_waiting_per_user_max: int = 20_000
    large_mails_max: int = 4
    """Mails larger than a batch that are in memory at once, however many checks run."""
    import_lines_max: int = LINES_MAX
    import_lines_a_part: int = LINES_A_PART
    """A longer import is committed this many lines at a time."""
    mailboxes_max: int = MAILBOXES_MAX
    watch: Pace = field(default_factory=Pace)
    watch_connections_max: int = 1_000
    """To one host, where the table of providers says nothing."""
    sweep_s: float = 30.0
    """How often the log is searched for open checks and purges that are not being worked on."""
    close_timeout_s: float = 5.0


class Readers:
    """See the module. Each reader of `SigningIn` signs in as the mailbox does, and then reads its own way."""

    def __init__(
        self,
        rosters: Rosters,
        settings: MailSettings,
        check_mail: CheckMail | None,
        lending: Lending,
        *,
        divided: bool,
    ) -> None:
        """`check_mail`: in place of checks and looks over the network. `divided`: nodes divide the checks."""
        mailboxes = rosters.mailboxes
        self.requests = Requests(settings.network, timeout_s=REQUEST_TIMEOUT_S)
        grants = StoredGrants(mailboxes, settings.providers)
        self.tokens = Tokens(grants, self.requests, mailboxes.ambient)
        self.connections = Connections(
            settings.providers,
            settings.watch_connections_max,
            lending,
            settings.checks_per_host_max if divided else 0,
        )
        environment = Environment(
            network=settings.network,
            requests=self.requests,
            limits=settings.check,
            large_mails=asyncio.Semaphore(settings.large_mails_max),
            executor=rosters.executor,
            ambient=mailboxes.ambient,
        )
        self.looking = Looking(environment)

        def signing(read: CheckMail, gate: Gate) -> SigningIn:
            return SigningIn(
                mailboxes=mailboxes,
                check_mail=read,
                providers=settings.providers,
                grants=grants,
                tokens=self.tokens,
                gate=gate,
                proxy=settings.proxy,
                group_proxy=rosters.group_proxy,
            )

        gate, opening = self.connections.of_check, self.connections.of_mail
        self.checks = signing(check_mail or partial(check, environment=environment), gate)
        self.looks = signing(check_mail or self.looking.new, lambda _plan: nullcontext())
        """A watcher has its place before it signs in, and keeps it afterwards."""
        self.one_mail = signing(OneMail(environment), opening)
        self.many_mails = signing(ManyMails(environment), opening)
        self.login = SigningInOnly(environment)
        self.sign_in = signing(check_mail or self.login, gate)

    async def close(self, timeout_s: float) -> None:
        """Let refreshes of tokens end, and close what is open. Idempotent."""
        await self.tokens.close(timeout_s)
        await self.requests.close()


PURGE: Final = "purge"
_PAGE_ROWS: Final = 200
_RETRIES: Final = 1 << 31
"""It is tried until it succeeds, every half minute."""

type Forgetting = Callable[[Sequence[MailRecord]], AbstractAsyncContextManager[None]]
"""Removes what else is known of these mails. The block then removes them here."""


class Purging:
    """The effect, and its books: see `Books`."""

    table: Final = PURGES

    def __init__(self, log: Log, ambient: Ambient, forgetting: Forgetting | None) -> None:
        self._forgetting = forgetting or nullcontext
        self._log = log
        self._ambient = ambient

    def spec(self) -> Spec:
        """How it is run."""
        return Spec(
            kind=MAILBOX,
            name=PURGE,
            handler=self._perform,
            read=bytes,
            key=int,
            retries=_RETRIES,
            backoff_s=30.0,
        )

    def effect_of(self, email_id: int) -> OpenEffect:
        """The purge of a mailbox as the runner knows it."""
        return OpenEffect(MAILBOX, str(email_id), PURGE, msgspec.Raw(b"{}"), self._ambient.now_ms())

    def read(self, key: bytes, value: bytes) -> tuple[int, OpenEffect]:
        """See `Books`."""
        del value
        return number_of(key), self.effect_of(number_of(key))

    def row_key(self, entry: Entry) -> bytes:
        """See `Books`."""
        return email_key(entry.id)

    @asynccontextmanager
    async def hold(self, entry: Entry) -> AsyncIterator[Hold]:
        """See `Books`."""
        yield _Hold(self, entry.id)

    async def cancelled(self, entry: Entry) -> str | None:
        """See `Books`. Nothing cancels a purge."""
        del entry
        return None

    async def remove(self, email_id: int, what: Sequence[RowDrop], *, last: bool) -> None:
        """Remove this in one commit."""
        mail = next((one for one in what if one.table in (MAIL, SOURCES)), None)  # the same key
        owner = ""
        if mail is not None and mail.key is not None and (row := await self._log.row(MAIL, "", mail.key)):
            owner = user_stream(msgspec.json.decode(row, type=MailPlace).user_id)
        append = Append(
            ts_ms=self._ambient.now_ms(),
            rows=tuple(what),
            # Ids are never reused: nothing more will be written to its stream.
            ended=(mailbox_stream(email_id),) if last else (),
            principal="service",
            owner=owner,
        )
        await self._log.append(append)

    async def _perform(self, _job: bytes, run: EffectRun) -> None:
        part = str(run.id)
        while rows := await self._log.rows(SOURCES, part, limit=_PAGE_ROWS):
            await run.emit(*(RowDrop(SOURCES, part, key, (blob.decode(),)) for key, blob in rows))
        while records := await self._log.rows(MAILS, part, limit=_PAGE_ROWS):
            found = [(key, msgspec.json.decode(value, type=MailRecord)) for key, value in records]
            async with self._forgetting([record for _, record in found]):
                await run.emit(*(one for key, record in found for one in _of_mail(part, key, record)))
        for table in (GRAPH, KNOWN, MISSING, UNREAD):
            while rows := await self._log.rows(table, part, limit=_PAGE_ROWS):
                await run.emit(*(RowDrop(table, part, key) for key, _ in rows))
        key = email_key(run.id)
        await run.finish(RowDrop(UNREAD_BODIES, "", key), RowDrop(PURGES, "", key))


def _of_mail(part: str, key: bytes, record: MailRecord) -> tuple[RowDrop, ...]:
    # The row holds the reference: a page that is purged twice releases it once.
    blobs = (record.blob,) if record.blob else ()
    return RowDrop(MAILS, part, key, blobs), RowDrop(MAIL, "", mail_key(record.mail_id))


class _Hold:
    """See `Hold`. What is said is what to remove."""

    attempt: Final = 1
    position: Final = 0

    def __init__(self, purging: Purging, email_id: int) -> None:
        self.over = ""
        self._purging = purging
        self._email_id = email_id

    async def state(self) -> None:
        """See `Hold`."""

    async def say(self, events: Sequence[RowDrop], *, ends: bool) -> None:
        """See `Hold`."""
        await self._purging.remove(self._email_id, events, last=ends)

    async def again(self, error_type: str, due_ms: int, row: OpenEffect) -> None:
        """See `Hold`. The row in `purges` is still there."""

    async def give_up(self, failure: Failure) -> str:
        """See `Hold`. It would be two thousand years until then."""
        del failure
        return FAILED

    async def end(self) -> str:
        """See `Hold`. A purge ends by `finish`."""
        return DONE


def checks_of(
    settings: MailSettings,
    readers: Readers,
    mailboxes: Mailboxes,
    *,
    shared: bool,
    wait_s: Callable[[UserId], float],
) -> Effects:
    """The checks: at most `checks_max` at a time, and `checks_per_host_max` at one mail server.

    Nodes divide them by mailbox. What is bounded over all nodes takes a place (`Connections.of_check`).
    """
    books = CheckBooks(mailboxes)
    check = Spec(
        kind=MAILBOX,
        name=CHECK,
        handler=Checking(readers.checks.check, readers.sign_in.check, mailboxes).perform,
        read=msgspec.json.Decoder(OpenCheck).decode,
        key=int,
        retries=0,
        at_once=settings.checks_per_host_max,
        per=_host_of,
        spread=True,
    )
    checks = Effects(
        log=mailboxes.log,
        ambient=mailboxes.ambient,
        books=books,
        specs={(MAILBOX, CHECK): check},
        wait_s=wait_s,
        shared=shared,
        bounds=Bounds(
            at_once=settings.checks_max,
            waiting_max=settings.checks_waiting_max,
            waiting_per_user_max=settings.checks_waiting_per_user_max,
            sweep_s=settings.sweep_s,
        ),
    )
    books.running = checks.running_of
    return checks


def purges_of(
    log: Log, ambient: Ambient, settings: MailSettings, purging: Purging, *, shared: bool
) -> Effects:
    """The purges, one at a time."""
    purge = purging.spec()
    return Effects(
        log=log,
        ambient=ambient,
        books=purging,
        specs={(MAILBOX, purge.name): purge},
        shared=shared,
        bounds=Bounds(at_once=1, sweep_s=settings.sweep_s),
    )


def _host_of(check: OpenCheck) -> str:
    return check.host.lower()
