"""The mail domain on the engine: rosters and mailboxes as entities, checks and purges as durable effects.

The plug-in (`huahuo.mailcheck.plugin`) makes one `MailDomain`, which the service starts and closes. The
deciders decide what events mean; this module only connects them.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import batched
from typing import Any

import msgspec
import structlog

from huahuo.actors.actor.errors import AskTimeout
from huahuo.actors.effects.facts import Start
from huahuo.actors.effects.runner import Bounds, Effects
from huahuo.actors.effects.spec import Spec
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Query
from huahuo.actors.entities.errors import EntityError
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.http import HttpRoute
from huahuo.actors.plugins.jobs import JobDoor
from huahuo.actors.plugins.plugin import ApiRefused, EntityKind
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.code_route import CodeRoute
from huahuo.mailcheck.api.exporting import Exporting
from huahuo.mailcheck.api.handlers import ROSTER, Handlers
from huahuo.mailcheck.api.importing import LINES_A_PART
from huahuo.mailcheck.api.searching import Searching
from huahuo.mailcheck.api.signing_in import Signins
from huahuo.mailcheck.api.watch_emails import WatchEmailsHandler
from huahuo.mailcheck.attachments.one_mail import OneMail
from huahuo.mailcheck.attachments.own_mails import OwnMails
from huahuo.mailcheck.attachments.reading import Attachments
from huahuo.mailcheck.checks import check as checker
from huahuo.mailcheck.checks.books import CHECK, CheckBooks, effect_of
from huahuo.mailcheck.checks.connections import Connections
from huahuo.mailcheck.checks.grants import StoredGrants
from huahuo.mailcheck.checks.graph_check import check_graph
from huahuo.mailcheck.checks.known import KnownMails
from huahuo.mailcheck.checks.mailboxes import MAILBOX, Mailboxes, Pauses
from huahuo.mailcheck.checks.ports import CheckLimits, GraphTarget, Ok, Sink, Target
from huahuo.mailcheck.checks.run import Checking
from huahuo.mailcheck.checks.signing_in import CheckMail, Gate, SigningIn
from huahuo.mailcheck.classic.adopting import Adopting
from huahuo.mailcheck.effects import Effect, LookAgain, Purge, StartCheck, StopCheck, Unwatch, Watch
from huahuo.mailcheck.events import STATUSES_BUSY, STATUSES_TERMINAL, user_of
from huahuo.mailcheck.fetched import UidCursor
from huahuo.mailcheck.finding.index import MailIndex
from huahuo.mailcheck.imap.network import Network
from huahuo.mailcheck.listing import RowsCut, snapshot_of
from huahuo.mailcheck.mailbox.commands import (
    Finish,
    MailboxCommand,
    NoMailbox,
    ReportedStatus,
    ReportProgress,
    ReportStatus,
)
from huahuo.mailcheck.mailbox.decider import MailboxDecider
from huahuo.mailcheck.roster.decider import IDS_MAX, MAILBOXES_MAX, RosterDecider
from huahuo.mailcheck.roster.importer import LINES_MAX
from huahuo.mailcheck.roster.state import ROW_BYTES, Roster
from huahuo.mailcheck.servers.providers import Providers
from huahuo.mailcheck.servers.proxies import Proxy
from huahuo.mailcheck.tables.purge import Purging
from huahuo.mailcheck.tables.records import OpenCheck, check_put
from huahuo.mailcheck.tables.reported_checks import reported_checks
from huahuo.mailcheck.watching.looking import Looking
from huahuo.mailcheck.watching.pace import Pace
from huahuo.mailcheck.watching.watching import Watching
from huahuo.mailcheck.web.requests import Requests
from huahuo.mailcheck.web.retrying import TIMEOUT_S as REQUEST_TIMEOUT_S
from huahuo.mailcheck.web.tokens import Tokens

_INTERRUPTED = "服务重启，检查中断"
_AT_ONCE = 256
"""Interrupted checks that are ended together, so that they share commits."""
_LOOK_S = 2.0
"""How often the node that has the work looks for mailboxes that other nodes were told to watch."""
_ENTITY_BYTES = 1_500
"""Memory of an entity with a small state."""
_REPORTABLE = STATUSES_BUSY | STATUSES_TERMINAL

_log = structlog.get_logger(__name__)


class UnknownMailbox(ApiRefused, LookupError):  # noqa: N818  a fact about the report
    """A report names a mailbox that does not exist or was deleted."""


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
    ids_max: int = IDS_MAX
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


class MailDomain:
    """See the module. All methods belong to the loop's thread.

    `check_mail` replaces the checks and the looks of watchers over the network, for simulated worlds.
    """

    def __init__(
        self,
        *,
        log: Log,
        directory: Directory,
        ambient: Ambient,
        executor: Executor,
        settings: MailSettings,
        check_mail: CheckMail | None = None,
        wait_s: Callable[[UserId], float] = lambda _user_id: 0.0,
        has_room: Callable[[UserId], bool] = lambda _user_id: True,
        index: MailIndex | None = None,
        jobs: JobDoor | None = None,
        shared: bool = False,
    ) -> None:
        """`wait_s`, `has_room`, `shared`: see `Host`. `index` None: mails cannot be searched."""
        self._index = index
        self._shared = shared
        self._looking: asyncio.TimerHandle | None = None
        self._lookers: set[asyncio.Task[None]] = set()
        self._log = log
        self._directory = directory
        self._ambient = ambient
        self._settings = settings
        pauses = Pauses()
        self._mailboxes = Mailboxes(directory, pauses)
        self._requests = Requests(settings.network, timeout_s=REQUEST_TIMEOUT_S)
        grants = StoredGrants(log, directory, self._mailboxes, settings.providers)
        self.tokens = Tokens(grants, self._requests, ambient)
        self.connections = Connections(settings.providers, settings.watch_connections_max)
        known = KnownMails(log, ambient)
        large_mails = asyncio.Semaphore(settings.large_mails_max)
        looking = Looking(settings.check, settings.network, self._requests, large_mails, executor, ambient)
        look = check_mail or looking.new
        check_mail = check_mail or _over_network(settings, self._requests, large_mails, executor, ambient)

        def signing(check: CheckMail, gate: Gate) -> SigningIn:
            return SigningIn(log, check, settings.providers, grants, self.tokens, gate, settings.proxy)

        self.watching = Watching(
            log=log,
            mailboxes=self._mailboxes,
            known=known,
            # A watcher has its place before it signs in, and keeps it afterwards.
            signing=signing(look, lambda _plan: nullcontext()),
            looking=looking,
            connections=self.connections,
            providers=settings.providers,
            ambient=ambient,
            settings=settings.watch,
            at_once=settings.checks_max,
            per_host=settings.checks_per_host_max,
            has_room=has_room,
        )
        check = Spec(
            kind=MAILBOX,
            name=CHECK,
            handler=Checking(signing(check_mail, self.connections.of_check).check, known).perform,
            read=msgspec.json.Decoder(OpenCheck).decode,
            key=int,
            retries=0,
            at_once=settings.checks_per_host_max,
            per=_host_of,
        )
        self._checks = Effects(
            log=log,
            ambient=ambient,
            books=CheckBooks(self._mailboxes, ambient),
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
        self._purging = (
            Purging(log, ambient, MAILBOX)
            if index is None
            else Purging(log, ambient, MAILBOX, index.forgetting)
        )
        purge = self._purging.spec()
        self._purges = Effects(
            log=log,
            ambient=ambient,
            books=self._purging,
            specs={(MAILBOX, purge.name): purge},
            shared=shared,
            bounds=Bounds(at_once=1, sweep_s=settings.sweep_s),
        )
        self._handlers = Handlers(
            log,
            directory,
            executor,
            pauses,
            lines_max=settings.import_lines_max,
            lines_a_part=settings.import_lines_a_part,
            providers=settings.providers,
            jobs=jobs,
        )
        reads = OneMail(
            network=settings.network, requests=self._requests, limits=settings.check, ambient=ambient
        )
        signs_in = signing(reads, self.connections.of_check)
        self._attachments = Attachments(
            OwnMails(log, directory), signs_in.check, self._mailboxes.plan_of, executor, ambient
        )
        self._exports = Exporting(log, directory, ambient).actions()
        self._searches = [] if index is None else Searching(log, directory, index).actions()
        self.adopting = Adopting(directory, self._mailboxes, ambient)
        """Takes over what another service has."""
        self._watch_emails = WatchEmailsHandler(log, directory, a_part=settings.ids_max)
        self._signins = Signins(log, directory, self._requests, ambient, settings.providers, settings.proxy)
        roster = RosterDecider(
            ids_max=settings.ids_max, mailboxes_max=settings.mailboxes_max, providers=settings.providers
        )
        self.kinds = (
            EntityKind(
                name=ROSTER, decider=roster, effects=self._start_effect, stream_prefix="user", weigh=_bytes_of
            ),
            EntityKind(
                name=MAILBOX, decider=MailboxDecider(), effects=self._start_effect, weigh=_mailbox_bytes
            ),
        )

    def actions(self) -> list[Action]:
        """The commands and queries of clients."""
        return [
            *self._handlers.actions(),
            *self._signins.actions(),
            *self._watch_emails.actions(),
            *self._attachments.actions(),
            *self._exports,
            *self._searches,
        ]

    def routes(self) -> list[HttpRoute]:
        """What is answered over plain HTTP."""
        return CodeRoute(self._log, self._directory, self._ambient).routes()

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
        cut: tuple[int, RowsCut] = await self._directory.ask(ROSTER, user_of(stream), Query(_cut))
        return cut

    async def start(self) -> None:
        """Begin to find mails. Call once, before serving.

        Raises:
            Unavailable, Closed: the log could not be read.
        """
        if self._index is not None:
            await self._index.start()

    async def work(self) -> None:
        """Continue the checks and purges that an earlier process left, and watch. Raises as `start`."""
        if not self._shared:
            # The embedding process that reported these is gone, so they cannot be continued.
            left = [found async for found in reported_checks(self._log)]
            for some in batched(left, _AT_ONCE):
                await asyncio.gather(*(self._interrupt(email_id, check_id) for email_id, check_id in some))
        await self._checks.start()
        await self._purges.start()
        await self.watching.start()
        if self._shared:
            self._look_for_watched()

    async def rest(self) -> None:
        """Another node has the work."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        await self.watching.close()
        await self._checks.rest()
        await self._purges.rest()

    def _look_for_watched(self) -> None:
        """Other nodes may be told to watch a mailbox: look for it now and then."""
        self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look_for_watched)
        task = asyncio.get_running_loop().create_task(self._watch_more(), name="mailboxes to watch")
        self._lookers.add(task)
        task.add_done_callback(self._lookers.discard)

    async def _watch_more(self) -> None:
        with contextlib.suppress(EventStoreError):
            await self.watching.start()

    async def drain(self, timeout_s: float) -> None:
        """Begin no check and no purge. Those that run and do not end in time stay open."""
        parts = [self._checks.drain(timeout_s), self._purges.drain(timeout_s), self.watching.close()]
        if self._index is not None:
            parts.append(self._index.drain(timeout_s))
        await asyncio.gather(*parts)

    async def close(self) -> None:
        """Stop running checks and leave them open, so that the next start continues them. Idempotent."""
        await self.watching.close()
        await self._checks.close(self._settings.close_timeout_s)
        await self._signins.close()
        await self._handlers.close()
        await self.tokens.close(self._settings.close_timeout_s)
        await self._requests.close()
        await self._purges.close()
        if self._index is not None:
            await self._index.close()

    async def idle(self) -> None:
        """Return when no check and no purge runs or waits in memory, and no mail waits for the index."""
        await self._checks.idle()
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
        answer = await self._mailboxes.tell(email_id, command)
        if isinstance(answer.reply, NoMailbox):
            raise UnknownMailbox(f"no mailbox {email_id}")
        return answer.position

    def _start_effect(self, _key: str, effect: Effect, _position: int) -> None:
        match effect:
            case StartCheck():
                put = check_put(effect.email_id, effect.user_id, effect.check_id, host=effect.host)
                row = effect_of(effect.email_id, put.value, effect.user_id, self._ambient.now_ms())
                self._checks.committed(Start(effect.check_id, row), row.entity)
            case StopCheck():
                self._checks.cancelled(effect.check_id)
            case Watch():
                self.watching.watch(effect.email_id, effect.host)
            case Unwatch():
                self.watching.unwatch(effect.email_id)
            case LookAgain():
                self.watching.look_again(effect.email_id)
            case Purge():
                self.tokens.forget(effect.email_id)
                row = self._purging.effect_of(effect.email_id)
                self._purges.committed(Start(effect.email_id, row), row.entity)

    async def _interrupt(self, email_id: int, check_id: int) -> None:
        try:
            cause = await self._mailboxes.cause_of(email_id, check_id)
            await self._mailboxes.tell(email_id, Finish(check_id, "error", _INTERRUPTED), cause=cause)
        except (EntityError, AskTimeout, EventStoreError) as error:
            _log.warning("check_not_interrupted", check_id=check_id, error=type(error).__name__)


def _host_of(check: OpenCheck) -> str:
    return check.host.lower()


def _over_network(
    settings: MailSettings,
    requests: Requests,
    large_mails: asyncio.Semaphore,
    executor: Executor,
    ambient: Ambient,
) -> CheckMail:
    async def check_mail(target: Target | GraphTarget, since: UidCursor | None, sink: Sink) -> Ok:
        shared: dict[str, Any] = {"large_mails": large_mails, "executor": executor, "ambient": ambient}
        if isinstance(target, GraphTarget):
            return await check_graph(
                target, since, sink=sink, limits=settings.check, requests=requests, **shared
            )
        return await checker.check(
            target, since, sink=sink, limits=settings.check, network=settings.network, **shared
        )

    return check_mail


def _cut(seq: int, state: Roster) -> tuple[int, RowsCut]:
    return seq, snapshot_of(state)


def _bytes_of(state: Roster) -> int:
    return _ENTITY_BYTES + ROW_BYTES * len(state.rows)


def _mailbox_bytes(_state: object) -> int:
    return _ENTITY_BYTES
