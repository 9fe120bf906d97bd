"""The mail domain on the engine: rosters and mailboxes as entities, checks and purges as durable effects.

The plug-in (`huahuo.mailcheck.plugin`) makes one `MailDomain`, which the service starts and closes. The
deciders decide what events mean; this module only connects them. Checks that an embedding application
makes itself are reported here; those that it did not end before a restart are ended as interrupted.

The durable effects of mail, and everything that reads mail servers, made once each.

What reads mail servers shares the network, the requests over HTTP, the access tokens, and the places at
each server. A purge removes the data of a deleted mailbox: records, the index of mail ids, contents. The
commit of a deletion adds a row to `purges`, which is dropped with the last page. A purge that was cut short
is repeated and removes what is left. For the user, the mailbox is gone with the deletion itself.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import batched
from typing import Final

import msgspec
import structlog

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.effects.queue import Bounds, Spec
from huahuo.actors.effects.runner import Effects
from huahuo.actors.entities.decider import EntityError
from huahuo.actors.entities.entity import Query
from huahuo.actors.entities.rendezvous_hash import Share
from huahuo.actors.plugins.actions import Action, HttpRoute
from huahuo.actors.plugins.calls import UserId
from huahuo.actors.plugins.plugin import ApiRefused, EntityKind, Host, Lending
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, RowDrop
from huahuo.mailcheck import events, records, zh
from huahuo.mailcheck.api.code_route import CodeRoute
from huahuo.mailcheck.api.contents import Attachments, Filling, Keeping, Opening
from huahuo.mailcheck.api.handlers import Handlers
from huahuo.mailcheck.api.import_export import Belongings, Exporting
from huahuo.mailcheck.api.mail_actions import AddingMails, MailQueries, Searching
from huahuo.mailcheck.api.mail_index import MailIndex
from huahuo.mailcheck.api.mailbox_list import RowsCut, snapshot_of
from huahuo.mailcheck.api.rosters import LINES_A_PART, ROSTER, Rosters
from huahuo.mailcheck.api.sign_in import Logins, Signins
from huahuo.mailcheck.checks.backlog import Backlog
from huahuo.mailcheck.checks.backoff import Pace
from huahuo.mailcheck.checks.check import check, run_errand
from huahuo.mailcheck.checks.check_effect import (
    CHECK,
    CheckBooks,
    Checking,
    CheckLimits,
    Environment,
    start_of,
)
from huahuo.mailcheck.checks.connections import Connections
from huahuo.mailcheck.checks.mailboxes import MAILBOX, Mailboxes, every_row
from huahuo.mailcheck.checks.sign_in import CheckMail, Gate, SigningIn, StoredGrants
from huahuo.mailcheck.checks.watchers import Looking, Looks, Watching
from huahuo.mailcheck.classic.queries import Adopting
from huahuo.mailcheck.mailbox.decider import (
    Finish,
    MailboxCommand,
    MailboxDecider,
    NoMailbox,
    ReportedStatus,
    ReportProgress,
    ReportStatus,
)
from huahuo.mailcheck.plugin.division import Division
from huahuo.mailcheck.roster.decider import MAILBOXES_MAX, RosterDecider
from huahuo.mailcheck.roster.importer import LINES_MAX
from huahuo.mailcheck.roster.state import ROW_BYTES, Roster
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
        self.errand = partial(run_errand, environment=environment)
        self.mails = signing(self.errand, opening)
        self.sign_in = signing(check_mail or self.errand, gate)

    async def close(self, timeout_s: float) -> None:
        """Let refreshes of tokens end, and close what is open. Idempotent."""
        await self.tokens.close(timeout_s)
        await self.requests.close()


_PAGE_ROWS: Final = 200
_PURGE_AGAIN_S: Final = 30.0

type Forgetting = Callable[[Sequence[records.MailRecord]], AbstractAsyncContextManager[None]]
"""Removes what else is known of these mails. The block then removes them here."""


class Purging:
    """The removal of deleted mailboxes' data, one mailbox at a time, each page in one commit."""

    def __init__(self, mailboxes: Mailboxes, forgetting: Forgetting | None, sweep_s: float) -> None:
        self._forgetting = forgetting or nullcontext
        self._log = mailboxes.log
        self._ambient = mailboxes.ambient
        self.backlog = Backlog(
            mailboxes, records.PURGES, self._purge, at_once=1, again_s=_PURGE_AGAIN_S, sweep_s=sweep_s
        )

    async def _purge(self, email_id: int) -> bool:
        part = str(email_id)
        while rows := await self._log.rows(records.SOURCES, part, limit=_PAGE_ROWS):
            await self._remove(*(RowDrop(records.SOURCES, part, key, (blob.decode(),)) for key, blob in rows))
        while page := await self._log.rows(records.MAILS, part, limit=_PAGE_ROWS):
            found = [(key, msgspec.json.decode(value, type=records.MailRecord)) for key, value in page]
            async with self._forgetting([record for _, record in found]):
                await self._remove(*(one for key, record in found for one in _of_mail(part, key, record)))
        for table in (records.GRAPH, records.KNOWN, records.MISSING, records.UNREAD):
            while rows := await self._log.rows(table, part, limit=_PAGE_ROWS):
                await self._remove(*(RowDrop(table, part, key) for key, _ in rows))
        key = records.email_key(email_id)
        # Ids are never reused: nothing more will be written to its stream.
        ended = (events.mailbox_stream(email_id),)
        await self._remove(
            RowDrop(records.UNREAD_BODIES, "", key), RowDrop(records.PURGES, "", key), ended=ended
        )
        return True

    async def _remove(self, *what: RowDrop, ended: tuple[str, ...] = ()) -> None:
        mail = next(
            (one for one in what if one.table in (records.MAIL, records.SOURCES)), None
        )  # the same key
        owner = ""
        if (
            mail is not None
            and mail.key is not None
            and (row := await self._log.row(records.MAIL, "", mail.key))
        ):
            owner = events.user_stream(msgspec.json.decode(row, type=records.MailPlace).user_id)
        now_ms = self._ambient.now_ms()
        await self._log.append(Append(ts_ms=now_ms, rows=what, ended=ended, principal="service", owner=owner))


def _of_mail(part: str, key: bytes, record: records.MailRecord) -> tuple[RowDrop, ...]:
    # The row holds the reference: a page that is purged twice releases it once.
    blobs = (record.blob,) if record.blob else ()
    return RowDrop(records.MAILS, part, key, blobs), RowDrop(
        records.MAIL, "", records.mail_key(record.mail_id)
    )


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
        read=msgspec.json.Decoder(records.OpenCheck).decode,
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


def _host_of(check: records.OpenCheck) -> str:
    return check.host.lower()


_AT_ONCE: Final = 256
"""Interrupted checks that are ended together, so that they share commits."""
_REPORTABLE: Final = events.STATUSES_BUSY | events.STATUSES_TERMINAL

_log = structlog.get_logger(__name__)
_check = msgspec.json.Decoder(records.OpenCheck).decode


class UnknownMailbox(ApiRefused, LookupError):  # noqa: N818  a fact about the report
    """A report names a mailbox that does not exist or was deleted."""


_ENTITY_BYTES = 1_500
"""Memory of an entity with a small state."""


class MailDomain:
    """See the module. All methods belong to the loop's thread.

    `check_mail` replaces the checks and the looks of watchers over the network, for simulated worlds.
    """

    def __init__(
        self,
        host: Host,
        settings: MailSettings,
        *,
        check_mail: CheckMail | None = None,
        index: MailIndex | None = None,
    ) -> None:
        """`index` None: mails cannot be searched."""
        self._index = index
        self._log = log = host.log
        self._tap = host.feed.tap
        self._ambient = ambient = host.ambient
        self._settings = settings
        mailboxes = self.mailboxes = Mailboxes(log, host.directory, ambient)
        rosters = self.rosters = Rosters(mailboxes, host.executor)
        readers = self._readers = Readers(rosters, settings, check_mail, host.lending, divided=host.shared)
        self.tokens, self.connections = readers.tokens, readers.connections
        looks = Looks(
            mailboxes=mailboxes,
            signing=readers.looks,
            looking=readers.looking,
            connections=readers.connections,
            providers=settings.providers,
            pace=settings.watch,
            at_once=settings.checks_max,
            per_host=settings.checks_per_host_max,
            has_room=host.has_room,
        )
        self.watching = Watching(looks)
        self._checks = checks_of(settings, readers, mailboxes, shared=host.shared, wait_s=host.wait_s)
        self.trace = self._checks.trace
        forgetting = None if index is None else index.forgetting
        self._purges = Purging(mailboxes, forgetting, settings.sweep_s).backlog
        keeping = Keeping(mailboxes)
        self.opening = Opening(rosters, readers.mails.check, keeping)
        """Contents of mails, from the log or from their servers."""
        self._filling = Filling(mailboxes, readers.mails.check, keeping).backlog
        self._division: Division | None = None
        """Where nodes share the log: which part of it is this node's."""
        if host.shared:
            filling = self._filling if self._fills else None
            self._division = Division(
                log, host.feed.tap, self._checks, self.watching, filling, settings.providers
            )
        self._handlers = Handlers(
            rosters,
            lines_max=settings.import_lines_max,
            lines_a_part=settings.import_lines_a_part,
            providers=settings.providers,
            jobs=host.jobs,
        )
        self._signins = Signins(rosters, readers.requests, settings.providers, settings.proxy)
        logins = Logins(
            rosters,
            stored=readers.sign_in.check,
            given=readers.errand,
            providers=settings.providers,
            proxy=settings.proxy,
            folders=settings.check.folders,
        )
        self.searching = None if index is None else Searching(rosters, index)
        self.actions: list[Action] = [
            *self._handlers.actions(),
            *MailQueries(rosters, self.opening).actions(),
            *self._signins.actions(),
            *Attachments(rosters, readers.mails.check).actions(),
            *logins.actions(),
            *AddingMails(rosters, codes=settings.check.codes).actions(),
            *Exporting(rosters).actions(),
            *([] if self.searching is None else self.searching.actions()),
        ]
        """The commands and queries of clients."""
        self.belongings = Belongings(rosters)
        self.adopting = Adopting(rosters)
        """Takes over what another service has."""
        roster = RosterDecider(mailboxes_max=settings.mailboxes_max, providers=settings.providers)
        self.kinds = (
            EntityKind(
                name=ROSTER, decider=roster, effects=self._start_effect, stream_prefix="user", weigh=_bytes_of
            ),
            EntityKind(
                name=MAILBOX, decider=MailboxDecider(), effects=self._start_effect, weigh=_mailbox_bytes
            ),
        )

    def routes(self) -> list[HttpRoute]:
        """What is answered over plain HTTP."""
        return CodeRoute(self.rosters, self._tap).routes()

    @property
    def connections_peak(self) -> int:
        """The most connections over IMAP at one time."""
        return self.connections.peak

    @property
    def checks_running(self) -> int:
        """How many checks run now."""
        return self._checks.running

    def checks_by_user(self) -> Collection[tuple[UserId, int]]:
        """How many checks of each user run; users without one are left out."""
        return self._checks.at_work()

    @property
    def checks_waiting(self) -> int:
        """How many queued checks wait in memory."""
        return self._checks.waiting

    async def snapshot(self, stream: str) -> tuple[int, RowsCut]:
        """(seq, state) of a user's stream: a consistent cut (PROTOCOL 2 and 4).

        Raises:
            ValueError: it is not the stream of a user. Otherwise as `Directory.ask`.
        """
        cut: tuple[int, RowsCut] = await self.mailboxes.directory.ask(
            ROSTER, events.user_of(stream), Query(_cut)
        )
        return cut

    async def start(self) -> None:
        """Begin to find mails. Call once, before serving.

        Raises:
            Unavailable, Closed: the log could not be read.
        """
        if self._index is not None:
            await self._index.start()

    @property
    def _fills(self) -> bool:
        return self._settings.check.bodies == "background"

    async def work(self) -> None:
        """Continue the checks and purges that an earlier process left, and watch. Raises as `start`.

        Where nodes share the log, `divide` says which of them check and watch.
        """
        await self._purges.start()
        if self._division is not None:
            await self._division.work(has=True)
            return
        await self._interrupt()
        await self._checks.start()
        await self.watching.start()
        if self._fills:
            await self._filling.start()

    async def divide(self, share: Share) -> None:
        """Check and watch this part of the mailboxes, and no other. Raises as `start`."""
        if self._division is not None:
            await self._division.divide(share)

    async def rest(self) -> None:
        """Another node has the work."""
        await self._purges.close()
        if self._division is not None:
            await self._division.work(has=False)

    async def drain(self, timeout_s: float) -> None:
        """Begin no check and no purge. Those that run and do not end in time stay open."""
        parts = [self._checks.drain(timeout_s), self._purges.close(), self.watching.close()]
        parts.append(self._filling.close())
        if self._index is not None:
            parts.append(self._index.drain(timeout_s))
        await asyncio.gather(*parts)

    async def close(self) -> None:
        """Stop running checks and leave them open, so that the next start continues them. Idempotent."""
        if self._division is not None:
            await self._division.close()
        await self.watching.close()
        await self._filling.close()
        await self._checks.close(self._settings.close_timeout_s)
        await self._signins.close()
        await self._handlers.close()
        await self._readers.close(self._settings.close_timeout_s)
        await self._purges.close()
        if self._index is not None:
            await self._index.close()

    async def idle(self) -> None:
        """Return when no check and no purge runs or waits in memory, and no mail waits for the index."""
        await self._checks.idle()
        await self._filling.idle()
        await self._purges.idle()
        if self._index is not None:
            await self._index.idle()

    async def report_status(self, email_id: int, status: ReportedStatus, message: str) -> int:
        """Record a check by the embedding application: `processing` opens it, any other status ends it.

        Returns:
            The log's position after the report.

        Raises:
            UnknownMailbox: there is no such mailbox. ValueError: not a status that can be reported.
            EntityError, AskTimeout, EventStoreError: see `Directory.ask`.
        """
        if status not in _REPORTABLE:
            raise ValueError(f"not a status to report: {status!r}")
        return await self._report(email_id, ReportStatus(status, message))

    async def report_progress(self, email_id: int, percent: int, message: str) -> int:
        """Record the progress of such a check, 0 to 100. Returns and raises as `report_status`."""
        if not 0 <= percent <= 100:  # noqa: PLR2004  per cent
            raise ValueError("percent is 0 to 100")
        return await self._report(email_id, ReportProgress(percent, message))

    async def _report(self, email_id: int, command: MailboxCommand) -> int:
        answer = await self.mailboxes.tell(email_id, command)
        if isinstance(answer.reply, NoMailbox):
            raise UnknownMailbox(f"no mailbox {email_id}")
        return answer.position

    async def _interrupt(self) -> None:
        """End reported checks that an earlier process left: their program is gone, so they cannot go on.

        While another node lives, a program may report them there: they are left open.

        Raises:
            Unavailable, Closed: the log could not be read.
        """
        if self._log.living() - {self._log.incarnation}:
            return
        found = [(key, _check(value)) async for key, value in every_row(self._log, records.CHECKS)]
        left = [(records.number_of(key), check.check_id) for key, check in found if check.implicit]
        for some in batched(left, _AT_ONCE):
            await asyncio.gather(*(self._end_interrupted(*one) for one in some))

    async def _end_interrupted(self, email_id: int, check_id: int) -> None:
        try:
            cause = await self.mailboxes.cause_of(email_id, check_id)
            await self.mailboxes.tell(email_id, Finish(check_id, "error", zh.INTERRUPTED), cause=cause)
        except (EntityError, AskTimeout, EventStoreError) as error:
            _log.warning("check_not_interrupted", check_id=check_id, error=type(error).__name__)

    def _start_effect(self, _key: str, effect: events.Effect, _position: int) -> None:
        match effect:
            case events.StartCheck():
                start = start_of(effect, self._ambient.now_ms())
                self._checks.committed(start, start.row.entity)
            case events.StopCheck():
                self._checks.cancelled(effect.check_id)
            case events.Watch():
                if self._division is None:  # else it is heard in the log, by each node
                    self.watching.watch(effect.email_id, effect.host)
            case events.Unwatch():
                if self._division is None:
                    self.watching.unwatch(effect.email_id)
            case events.LookAgain():
                self.watching.look_again(effect.email_id)
            case events.ReadBodies():
                self._filling.add(effect.email_id)
            case events.Purge():
                self.tokens.forget(effect.email_id)
                self._purges.add(effect.email_id)


def _cut(seq: int, state: Roster) -> tuple[int, RowsCut]:
    return seq, snapshot_of(state)


def _bytes_of(state: Roster) -> int:
    return _ENTITY_BYTES + ROW_BYTES * len(state.rows)


def _mailbox_bytes(_state: object) -> int:
    return _ENTITY_BYTES
