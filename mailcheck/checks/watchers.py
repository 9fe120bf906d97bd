"""Watching mailboxes: a look over a new connection or one in IDLE, whose turn it is, which are watched.

    due ──▶ its host's queue ──▶ a look ──▶ IDLE (no task, a renewal is due) ──news──▶ due at once
     ▲                             ├─▶ no IDLE: the next look is due
     └──── later, by chance ◀──────┴─▶ failed

What is found goes to the mailbox as `MailsSeen`: no check is open, and no progress is told. A mailbox that
waits has a timer. When it is due it stands in the queue of its host, those
with news before all others; hosts take turns, and few looks run at a time. A look is a task in its turn, and
may leave a connection in IDLE behind. A mailbox whose sign-in was refused has no turn until something about
its sign-in changes. Which mailboxes are watched is in the table `watched`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any, Final

import structlog

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.entities.decider import EntityError
from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.errors import EventStoreError
from huahuo.mailcheck.checks import backoff
from huahuo.mailcheck.checks.backoff import LIMITS, TOLD_FROM, Host
from huahuo.mailcheck.checks.check import check, classified, cutting, delivering, signed_in
from huahuo.mailcheck.checks.check_effect import CheckFailed, Environment, GraphTarget, Ok, Sink, Target
from huahuo.mailcheck.checks.connections import Connections, Places
from huahuo.mailcheck.checks.folder_reader import Reading
from huahuo.mailcheck.checks.mailboxes import Mailboxes, Standing, every_row
from huahuo.mailcheck.checks.sign_in import SigningIn
from huahuo.mailcheck.events import INBOX, FetchedMail, UidCursor
from huahuo.mailcheck.mailbox.decider import MailsSeen, NoMailbox, Plan, SeeUnread, WatchState
from huahuo.mailcheck.records import WATCHED, number_of
from huahuo.mailcheck.servers.faults import MailFault, Outcome
from huahuo.mailcheck.servers.imap_client import ImapClient
from huahuo.mailcheck.servers.providers import Providers


class Watched:
    """One watched mailbox. It has no `timer` while it looks, or waits for its sign-in to change."""

    __slots__ = (
        "all_due_s",
        "anew",
        "client",
        "email_id",
        "failures",
        "host",
        "news",
        "places",
        "running",
        "since_s",
        "timer",
        "told",
    )

    def __init__(self, email_id: int, host: str) -> None:
        self.email_id = email_id
        self.host = host
        self.timer: asyncio.TimerHandle | None = None
        self.failures = 0
        self.running = False
        self.anew = False
        """Its settings changed while it looked."""
        self.news = False
        self.told = False
        """The user was told of a failure, as far as this process knows."""
        self.client: ImapClient | None = None
        self.places: Places | None = None
        """Where the connection of `client` has its place."""
        self.since_s = 0.0
        """When it took that."""
        self.all_due_s = 0.0
        """When all folders are to be read again. News of INBOX put that off no further."""

    def stop(self) -> None:
        """Its turn does not come by itself any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def cut(self) -> None:
        """Cut the connection that waits in IDLE, if there is one."""
        client, places = self.client, self.places
        self.client = self.places = None
        if client is not None:
            client.abort()
        if places is not None:
            places.wake(self.email_id)
            places.give()


def now_s() -> float:
    """The time of the loop."""
    return asyncio.get_running_loop().time()


type Begin = Callable[[Watched, Host], Coroutine[Any, Any, None] | None]
"""What is done in a turn, None for nothing."""
type Ended = Callable[[Watched, Host, BaseException | None], None]


class Turns:
    """Whose turn it is among all watched mailboxes. All methods belong to the loop's thread."""

    def __init__(self, begin: Begin, ended: Ended, *, at_once: int, per_host: int) -> None:
        self._look, self._looked = begin, ended
        self._at_once = at_once
        self._per_host = per_host
        self.watched: dict[int, Watched] = {}
        self.hosts: dict[str, Host] = {}
        self._ready: dict[str, Host] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.open = False

    def add(self, email_id: int, host: str) -> Watched:
        """A mailbox is watched from now on. Its turn is still to be set."""
        watched = self.watched[email_id] = Watched(email_id, host.lower())
        self.host_of(watched).watched += 1
        return watched

    def move(self, watched: Watched, host: str) -> None:
        """The mailbox is at this host now."""
        if watched.host != host.lower():
            self.leave_host(watched)
            watched.host = host.lower()
            self.host_of(watched).watched += 1

    def host_of(self, watched: Watched) -> Host:
        """The host of a mailbox."""
        return self.hosts.setdefault(watched.host, Host())

    def leave_host(self, watched: Watched) -> None:
        """The mailbox is not at its host any more."""
        host = self.host_of(watched)
        host.watched -= 1
        if not host.watched and not host.running and not host.waits:
            del self.hosts[watched.host]

    def later(self, watched: Watched, wait_s: float) -> None:
        """The mailbox's turn comes in `wait_s`, and no other one before."""
        watched.stop()
        watched.timer = asyncio.get_running_loop().call_later(wait_s, self._due, watched)

    async def close(self) -> None:
        """End all looks, and begin none. Idempotent."""
        self.open = False
        for watched in self.watched.values():
            watched.stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _due(self, watched: Watched) -> None:
        watched.timer = None
        host = self.host_of(watched)
        host.append(watched.email_id, news=watched.news)
        self._ready[watched.host] = host
        self.pump()

    def pump(self) -> None:
        """Begin looks, in turns for the hosts."""
        for name in list(self._ready) if self.open else ():
            host = self._ready[name]
            while host.waits and host.running < self._per_host and len(self._tasks) < self._at_once:
                self._begin(self.watched.get(host.popleft()), name, host)
            if not host.waits:
                del self._ready[name]
            elif host.running < self._per_host:
                self._ready[name] = self._ready.pop(name)  # its turn comes first when a place is free
                return

    def _begin(self, watched: Watched | None, name: str, host: Host) -> None:
        if watched is None or watched.running or watched.host != name:
            return
        if watched.timer is not None:
            return  # it has got another turn since
        work = self._look(watched, host)
        if work is None:
            return
        host.running += 1
        watched.running = True
        task = asyncio.create_task(work, name=f"watcher of mailbox {watched.email_id}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, watched, host))

    def _ended(self, task: asyncio.Task[None], watched: Watched, host: Host) -> None:
        self._tasks.discard(task)
        host.running -= 1
        watched.running = False
        self._looked(watched, host, None if task.cancelled() else task.exception())
        self.pump()


_NEWEST: Final = 100
"""A watcher tells at most this many mails of a folder that was never read. The rest is for a check."""


class MailboxGone(Exception):  # noqa: N818  a fact about the mailbox
    """The mailbox was deleted meanwhile."""


class Seen:
    """See `Sink`. `client` is the connection, if one was made and may be kept."""

    def __init__(self, mailboxes: Mailboxes, email_id: int, plan: Plan) -> None:
        self.client: ImapClient | None = None
        self._mailboxes = mailboxes
        self._email_id = email_id
        self._plan = plan

    async def progress(self, percent: int, message: str) -> None:
        """See `Sink`."""

    async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
        """See `Sink`."""
        async with self._mailboxes.fresh(self._email_id, self._plan, batch) as (mails, equals):
            answer = await self._mailboxes.tell(self._email_id, MailsSeen(mails, cursor, equals))
        if isinstance(answer.reply, NoMailbox):
            raise MailboxGone

    async def unread(self, folder: str, uidvalidity: int, uids: str) -> None:
        """See `Sink`."""
        await self._mailboxes.tell(self._email_id, SeeUnread(folder, uidvalidity, uids))


class Looking:
    """Everything that looks need but the mailbox. A look raises CheckFailed, and what its sink raises."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    async def new(self, target: Target | GraphTarget, since: UidCursor | None, sink: Sink) -> Ok:
        """Look over a new connection, or by Graph. See `CheckMail`."""
        assert isinstance(sink, Seen), "watchers only"
        if isinstance(target, GraphTarget):
            return await check(target, since, sink, environment=self._environment)
        cursors = target.cursors if since is None else {**target.cursors, INBOX: since}
        with classified():
            client = await signed_in(target, self._environment)
            return await self._read(client, cursors, target.folders, sink, others=True)

    async def again(self, client: ImapClient, plan: Plan, sink: Seen, *, renews: bool) -> Ok:
        """Look over a connection that waits in IDLE. After a failure it is cut.

        `renews`: not for news of INBOX, so other folders are read too.
        """
        with classified():
            async with self.cutting(client):
                await client.end_idle()
            return await self._read(client, plan.cursors, plan.folders, sink, others=renews)

    def cutting(self, client: ImapClient | None) -> AbstractAsyncContextManager[None]:
        """See `cutting`."""
        return cutting(client, self._environment.limits.logout_timeout_s)

    async def _read(
        self,
        client: ImapClient,
        cursors: Mapping[str, UidCursor],
        folders: tuple[str, ...] | None,
        sink: Seen,
        *,
        others: bool,
    ) -> Ok:
        """INBOX is read last: IDLE tells of the open folder, and of what comes after it was opened."""
        reading = Reading(cursors, sink, self._environment, newest=_NEWEST, folders=folders)
        async with self.cutting(client):
            async with delivering(self._environment) as deadline:
                if others:
                    await reading.others(client, deadline)
                done = await reading.inbox(client, deadline)
            await sink.mails([], done.cursor)
        sink.client = client
        return done


_LOGOUT_S: Final = 2.0
_STORE_FAULTS: Final = (EntityError, AskTimeout, EventStoreError)

_log = structlog.get_logger(__name__)


@dataclass(eq=False, kw_only=True)
class Looks:
    """See the module. All methods belong to the loop's thread."""

    mailboxes: Mailboxes
    signing: SigningIn
    looking: Looking
    connections: Connections
    providers: Providers
    pace: backoff.Pace
    at_once: InitVar[int]
    """At most this many looks run, and `per_host` at one server."""
    per_host: InitVar[int]
    has_room: Callable[[UserId], bool] = lambda _user_id: True
    """See `plugin.Host`."""
    count: int = field(init=False, default=0)
    """Looks since the start."""

    def __post_init__(self, at_once: int, per_host: int) -> None:
        self.turns = Turns(self.begin, self.ended, at_once=at_once, per_host=per_host)
        self._random = self.mailboxes.ambient.random

    def begin(self, watched: Watched, host: Host) -> Coroutine[Any, Any, None] | None:
        """What to do now that it is the mailbox's turn, None for nothing."""
        now = now_s()
        if watched.client is not None and watched.client.lost:
            watched.cut()
        if watched.client is not None or not host.closed(now):
            if watched.client is None:
                host.begin()
            return self._look(watched, host)
        wait_s = max(host.until_s - now, 0.5) + backoff.spread_s(host.watched, self._random())
        self.turns.later(watched, wait_s)
        if watched.told or host.failures < TOLD_FROM or host.outcome is None:
            return None
        return self._tell(watched, host.outcome)

    def ended(self, watched: Watched, host: Host, error: BaseException | None) -> None:
        """A look is done."""
        if error is not None:
            _log.error("watcher_failed", email_id=watched.email_id, error=type(error).__name__)
            host.tries = False
            watched.cut()
            self.turns.later(watched, backoff.hopeless_s(self._random()))
        if watched.anew:
            watched.anew = False
            watched.cut()
            self.turns.later(watched, 0.0)
        elif watched.news and watched.client is not None:
            self.turns.later(watched, 0.0)

    # -- one look -----------------------------------------------------------------------------------

    async def _look(self, watched: Watched, host: Host) -> None:
        try:
            standing = await self.mailboxes.standing(watched.email_id)
        except _STORE_FAULTS as error:
            host.tries = False
            self._not_stored(watched, error)
            return
        if standing.plan is None or standing.refused:
            # Gone, or nothing will change until the user acts: an effect then says so.
            host.tries = False
            watched.cut()
            return
        if not self.has_room(standing.user_id):
            host.tries = False
            self.turns.later(watched, backoff.poll_s(self.pace, self._random()))
            return
        client, places = watched.client, watched.places
        watched.client = None
        if places is None:
            places = self.connections.of_watchers(standing.plan)
            now = now_s()
            if not places.try_take(now - self.pace.hold_s):
                host.tries = False
                self.turns.later(watched, backoff.poll_s(self.pace, self._random()) / 2)
                return
            watched.since_s = now
        else:
            places.wake(watched.email_id)
            watched.places = None
        lent = False
        try:
            lent = await self._look_at(watched, host, standing, places, client)
        finally:
            if client is None:
                host.tries = False
            if not lent:
                places.give()

    async def _look_at(
        self, watched: Watched, host: Host, standing: Standing, places: Places, client: ImapClient | None
    ) -> bool:
        """Look, tell what is to be told, and wait for more. True: the place is lent to an IDLE."""
        plan = standing.plan
        assert plan is not None, "it was asked before"
        self.count += 1
        reads_all = client is None or not watched.news
        seen = Seen(self.mailboxes, watched.email_id, plan)
        try:
            if client is None:
                done = await self.signing.check(watched.email_id, plan, seen)
                if not done.own_way:
                    host.answered()
            else:
                await self.looking.again(client, plan, seen, renews=reads_all)
        except CheckFailed as failed:
            if client is None:
                await self._failed(watched, host, failed.outcome)
            else:
                # The connection had ended, as connections do. A new one shows whether there is a failure.
                self.turns.later(watched, backoff.spread_s(host.watched, self._random()))
            return False
        except MailboxGone:
            return False
        except _STORE_FAULTS as error:
            self._not_stored(watched, error)
            return False
        watched.failures = 0
        async with self.looking.cutting(seen.client):
            if watched.told or standing.failed:
                await self._told(watched, WatchState("ok"))
                watched.told = False
            return await self._wait(watched, places, plan, seen.client, has_read_all=reads_all)

    async def _wait(
        self, watched: Watched, places: Places, plan: Plan, client: ImapClient | None, *, has_read_all: bool
    ) -> bool:
        """Wait in IDLE if the server offers it, else for the next look."""
        provider = self.providers.of(plan.mail_type, plan.server, plan.port)
        stays = self.turns.watched.get(watched.email_id) is watched and not watched.anew
        if client is not None and client.idles and provider.idle and stays:
            watched.news = False
            try:
                await client.begin_idle(partial(self._news, watched))
            except MailFault:
                client.abort()
            else:
                watched.client, watched.places = client, places
                now, there = now_s(), self.turns.host_of(watched).watched
                if has_read_all:
                    renew_s = backoff.renew_s(self.pace, there, len(self.turns.watched), self._random())
                    watched.all_due_s = now + renew_s
                self.turns.later(watched, max(0.0, watched.all_due_s - now))
                places.lend(watched.email_id, watched.since_s, partial(self._evicted, watched))
                return True
        elif client is not None:
            await client.logout(_LOGOUT_S)
        self.turns.later(watched, backoff.poll_s(self.pace, self._random()))
        return False

    def _news(self, watched: Watched) -> None:
        """The server said something, or the connection ended. If its look runs still, its end sees to it."""
        watched.news = True
        if not watched.running and self.turns.open:
            lost = watched.client is not None and watched.client.lost
            host = self.turns.host_of(watched)
            self.turns.later(watched, backoff.spread_s(host.watched, self._random()) if lost else 0.0)

    def _evicted(self, watched: Watched) -> None:
        """A check, or another watcher, needs the place."""
        client, watched.client, watched.places = watched.client, None, None
        if client is not None:
            client.abort()
        self.turns.later(watched, backoff.poll_s(self.pace, self._random()))

    # -- how it fares -------------------------------------------------------------------------------

    async def _failed(self, watched: Watched, host: Host, outcome: Outcome) -> None:
        chance = self._random()
        now = now_s()
        watched.failures += 1
        if not outcome.own_way and host.failed(outcome, now, chance):
            self.turns.later(watched, max(host.until_s - now, 0.5))
            failures = host.failures
        elif outcome.status == "need_reauth":
            failures = TOLD_FROM
        elif not outcome.retry:
            self.turns.later(watched, backoff.hopeless_s(chance))
            failures = TOLD_FROM
        else:
            wait_s = backoff.limited_s if outcome.kind in LIMITS else backoff.again_s
            self.turns.later(watched, wait_s(watched.failures, chance))
            failures = watched.failures
        if failures >= TOLD_FROM:
            await self._tell(watched, outcome)

    async def _tell(self, watched: Watched, outcome: Outcome) -> None:
        """Tell the user of a failure."""
        state = WatchState(
            outcome.status, outcome.said, error_class=outcome.error_class, advice=outcome.advice
        )
        watched.told = await self._told(watched, state)

    async def _told(self, watched: Watched, state: WatchState) -> bool:
        try:
            await self.mailboxes.tell(watched.email_id, state)
        except _STORE_FAULTS as error:
            self._not_stored(watched, error)
            return False
        return True

    def _not_stored(self, watched: Watched, error: Exception) -> None:
        """The log, or the mailbox, gave no answer: look again soon."""
        _log.warning("watcher_without_log", email_id=watched.email_id, error=type(error).__name__)
        watched.cut()
        self.turns.later(watched, backoff.again_s(1, self._random()))


type Mine = Callable[[int, str], bool]
"""Whether this node watches the mailbox of this id, at this host."""


class Watching:
    """Which mailboxes this node watches. Effects only; what is watched is in the table `watched`.

    All methods belong to the loop's thread.
    """

    def __init__(self, looks: Looks) -> None:
        self._log = looks.mailboxes.log
        self._random = looks.mailboxes.ambient.random
        self._looks = looks
        self._turns = looks.turns

    @property
    def looks(self) -> int:
        """Looks at mailboxes since the start."""
        return self._looks.count

    @property
    def count(self) -> int:
        """How many mailboxes are watched."""
        return len(self._turns.watched)

    @property
    def idle(self) -> int:
        """How many connections wait in IDLE."""
        return sum(w.client is not None for w in self._turns.watched.values())

    @property
    def hosts_left_alone(self) -> int:
        """How many servers are left alone now, because they failed or limit us."""
        return sum(host.failures > 0 for host in self._turns.hosts.values())

    @property
    def backoffs(self) -> int:
        """How often a server was left alone since the start."""
        return sum(host.backoffs for host in self._turns.hosts.values())

    async def start(self, mine: Mine = lambda _email_id, _host: True) -> None:
        """Watch what is to be watched, as far as it is `mine`, and nothing else.

        Raises:
            Unavailable, Closed: the log could not be read.
        """
        before = set(self._turns.watched)
        rows = [(number_of(key), host.decode()) async for key, host in every_row(self._log, WATCHED)]
        found = {email_id: host for email_id, host in rows if mine(email_id, host)}
        self._turns.open = True
        self._turns.pump()
        for gone in before - found.keys():
            self.unwatch(gone)
        for email_id, host in found.items():
            watched = self._turns.watched.get(email_id)
            if watched is not None and watched.host != host.lower():
                self.watch(email_id, host)
            elif watched is None:
                self._turns.later(
                    self._turns.add(email_id, host), backoff.spread_s(len(found), self._random())
                )

    def watch(self, email_id: int, host: str) -> None:
        """Watch a mailbox, or look at it anew because its settings changed."""
        watched = self._turns.watched.get(email_id)
        if watched is None:
            watched = self._turns.add(email_id, host)
        self._turns.move(watched, host)
        watched.cut()
        watched.failures, watched.anew = 0, watched.running
        if not watched.running:
            self._turns.later(watched, 0.0)

    def unwatch(self, email_id: int) -> None:
        """Do not watch it any more. A look under way ends."""
        watched = self._turns.watched.pop(email_id, None)
        if watched is not None:
            watched.cut()
            watched.stop()
            self._turns.leave_host(watched)

    def look_again(self, email_id: int) -> None:
        """A check of the mailbox succeeded after a failure."""
        watched = self._turns.watched.get(email_id)
        if watched is not None and watched.client is None and not watched.running:
            watched.told, watched.failures = False, 0
            self._turns.later(watched, 0.0)

    def waits_for_sign_in(self, email_id: int) -> bool:
        """Whether the mailbox has no turn until something about its sign-in changes."""
        watched = self._turns.watched.get(email_id)
        return watched is not None and watched.timer is None and not watched.running

    def has_failed(self, email_id: int) -> bool:
        """Whether the last look at the mailbox has failed."""
        watched = self._turns.watched.get(email_id)
        return watched is not None and (watched.failures > 0 or self.waits_for_sign_in(email_id))

    def look_at_waiting(self) -> None:
        """What changed was not heard: look at each mailbox that waits for its sign-in."""
        waiting = [number for number in self._turns.watched if self.waits_for_sign_in(number)]
        for number in waiting:
            wait_s = backoff.spread_s(len(waiting), self._random())
            self._turns.later(self._turns.watched[number], wait_s)

    async def rest(self) -> None:
        """Watch nothing, until `start`."""
        await self.close()
        for email_id in list(self._turns.watched):
            self.unwatch(email_id)

    async def close(self) -> None:
        """Stop all looks and cut all connections. Idempotent."""
        await self._turns.close()
        for watched in self._turns.watched.values():
            watched.cut()
