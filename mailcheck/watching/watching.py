"""The watchers of all watched mailboxes. Effects only; what is watched is in the table `watched`.

    due ──▶ its host's queue ──▶ a look ──▶ IDLE (no task, a renewal is due) ──news──▶ due at once
     ▲                             ├─▶ no IDLE: the next look is due
     └──── later, by chance ◀──────┴─▶ failed

A mailbox that waits has an entry in one heap, under one timer. A look is a task; few run at a time. A mailbox
whose sign-in was refused has no entry until something about its sign-in changes.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

import structlog

from huahuo.actors.actor.errors import AskTimeout
from huahuo.actors.entities.errors import EntityError
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.port import Log
from huahuo.mailcheck.checks.connections import Connections, Places
from huahuo.mailcheck.checks.known import KnownMails
from huahuo.mailcheck.checks.mailboxes import Mailboxes, Standing
from huahuo.mailcheck.checks.ports import CheckFailed
from huahuo.mailcheck.checks.signing_in import SigningIn
from huahuo.mailcheck.imap.client import ImapClient
from huahuo.mailcheck.imap.outcome import Outcome
from huahuo.mailcheck.mailbox.commands import Plan, WatchState
from huahuo.mailcheck.servers.faults import MailFault
from huahuo.mailcheck.servers.providers import Providers
from huahuo.mailcheck.tables.records import WATCHED, number_of
from huahuo.mailcheck.watching import pace
from huahuo.mailcheck.watching.hosts import TOLD_FROM, Host
from huahuo.mailcheck.watching.looking import Cutting, Looking, MailboxGone, Seen

_PAGE_ROWS: Final = 1_000
_LOGOUT_S: Final = 2.0
_NEVER_S: Final = float("inf")
_STORE_FAULTS: Final = (EntityError, AskTimeout, EventStoreError)

_log = structlog.get_logger(__name__)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


class Watched:
    """One watched mailbox. `due_s` is inf while it looks, or waits for its sign-in to change."""

    __slots__ = (
        "anew",
        "client",
        "due_s",
        "email_id",
        "failures",
        "host",
        "news",
        "places",
        "running",
        "told",
    )

    def __init__(self, email_id: int, host: str) -> None:
        self.email_id = email_id
        self.host = host
        self.due_s = _NEVER_S
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


class Watching:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self,
        *,
        log: Log,
        mailboxes: Mailboxes,
        known: KnownMails,
        signing: SigningIn,
        looking: Looking,
        connections: Connections,
        providers: Providers,
        ambient: Ambient,
        settings: pace.Pace,
        at_once: int,
        per_host: int,
        has_room: Callable[[UserId], bool] = lambda _user_id: True,
    ) -> None:
        """`has_room`: see `Host`."""
        self._has_room = has_room
        self._log = log
        self._mailboxes = mailboxes
        self._known = known
        self._signing = signing
        self._looking = looking
        self._connections = connections
        self._providers = providers
        self._ambient = ambient
        self._pace = settings
        self._at_once = at_once
        self._per_host = per_host
        self._watched: dict[int, Watched] = {}
        self._hosts: dict[str, Host] = {}
        self._due: list[tuple[float, int]] = []
        self._ready: dict[str, Host] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._open = False
        self.looks = 0
        """Looks at mailboxes since the start."""

    @property
    def count(self) -> int:
        """How many mailboxes are watched."""
        return len(self._watched)

    @property
    def idle(self) -> int:
        """How many connections wait in IDLE."""
        return sum(w.client is not None for w in self._watched.values())

    @property
    def hosts_left_alone(self) -> int:
        """How many servers are left alone now, because they failed or limit us."""
        return sum(host.failures > 0 for host in self._hosts.values())

    @property
    def backoffs(self) -> int:
        """How often a server was left alone since the start."""
        return sum(host.backoffs for host in self._hosts.values())

    async def start(self) -> None:
        """Watch what was watched before. Call once.

        Raises:
            Unavailable, Closed: the log could not be read.
        """
        found = [(email_id, host) async for email_id, host in self._rows()]
        self._open = True
        for email_id, host in found:
            if email_id not in self._watched:
                self._later(self._add(email_id, host), pace.spread_s(len(found), self._ambient.random()))

    def watch(self, email_id: int, host: str) -> None:
        """Watch a mailbox, or look at it anew because its settings changed."""
        watched = self._watched.get(email_id)
        if watched is None:
            watched = self._add(email_id, host)
        elif watched.host != host.lower():
            self._leave_host(watched)
            watched.host = host.lower()
            self._host(watched).watched += 1
        self._cut(watched)
        watched.failures, watched.anew = 0, watched.running
        if not watched.running:
            self._later(watched, 0.0)

    def unwatch(self, email_id: int) -> None:
        """Do not watch it any more. A look under way ends."""
        watched = self._watched.pop(email_id, None)
        if watched is not None:
            self._cut(watched)
            self._leave_host(watched)
            watched.due_s = _NEVER_S

    def look_again(self, email_id: int) -> None:
        """A check of the mailbox succeeded after a failure."""
        watched = self._watched.get(email_id)
        if watched is not None and watched.client is None and not watched.running:
            watched.told, watched.failures = False, 0
            self._later(watched, 0.0)

    async def close(self) -> None:
        """Stop all looks and cut all connections. Idempotent."""
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for watched in self._watched.values():
            self._cut(watched)

    # -- whose turn it is ---------------------------------------------------------------------------

    def _add(self, email_id: int, host: str) -> Watched:
        watched = self._watched[email_id] = Watched(email_id, host.lower())
        self._host(watched).watched += 1
        return watched

    def _host(self, watched: Watched) -> Host:
        return self._hosts.setdefault(watched.host, Host())

    def _leave_host(self, watched: Watched) -> None:
        host = self._host(watched)
        host.watched -= 1
        if not host.watched and not host.running and not host.queue:
            del self._hosts[watched.host]

    def _later(self, watched: Watched, wait_s: float) -> None:
        """The mailbox's turn comes in `wait_s`, and no other one before."""
        watched.due_s = _now_s() + wait_s
        heapq.heappush(self._due, (watched.due_s, watched.email_id))
        if len(self._due) > 4 * len(self._watched) + _PAGE_ROWS:
            self._due = [(one.due_s, one.email_id) for one in self._watched.values() if one.due_s < _NEVER_S]
            heapq.heapify(self._due)
        if self._due[0][1] == watched.email_id:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due and self._open:
            wait_s = max(0.0, self._due[0][0] - _now_s())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now_s = _now_s()
        while self._due and self._due[0][0] <= now_s:
            due_s, email_id = heapq.heappop(self._due)
            watched = self._watched.get(email_id)
            if watched is not None and watched.due_s == due_s:
                watched.due_s = _NEVER_S
                host = self._host(watched)
                host.queue.append(email_id)
                self._ready[watched.host] = host
        self._arm()
        self._pump()

    def _pump(self) -> None:
        """Begin looks, in turns for the hosts."""
        for name in list(self._ready):
            host = self._ready[name]
            while host.queue and host.running < self._per_host and len(self._tasks) < self._at_once:
                self._begin(self._watched.get(host.queue.popleft()), name, host)
            if not host.queue:
                del self._ready[name]
            elif host.running < self._per_host:
                self._ready[name] = self._ready.pop(name)  # its turn comes first when a place is free
                return

    def _begin(self, watched: Watched | None, name: str, host: Host) -> None:
        if watched is None or watched.running or watched.host != name or not self._open:
            return
        now_s = _now_s()
        if watched.client is not None and watched.client.lost:
            self._cut(watched)
        if watched.client is not None or not host.closed(now_s):
            if watched.client is None:
                host.begin()
            work = self._look(watched, host)
        else:
            wait_s = max(host.until_s - now_s, 0.5) + pace.spread_s(host.watched, self._ambient.random())
            self._later(watched, wait_s)
            if watched.told or host.failures < TOLD_FROM or host.outcome is None:
                return
            work = self._tell(watched, host.outcome)
        host.running += 1
        watched.running = True
        task = asyncio.create_task(work, name=f"watcher of mailbox {watched.email_id}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, watched, host))

    def _ended(self, task: asyncio.Task[None], watched: Watched, host: Host) -> None:
        self._tasks.discard(task)
        host.running -= 1
        watched.running = False
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("watcher_failed", email_id=watched.email_id, error=type(error).__name__)
            host.tries = False
            self._cut(watched)
            self._later(watched, pace.hopeless_s(self._ambient.random()))
        if watched.anew:
            watched.anew = False
            self._cut(watched)
            self._later(watched, 0.0)
        elif watched.news and watched.client is not None:
            self._later(watched, 0.0)
        if self._open:
            self._pump()

    # -- one look -----------------------------------------------------------------------------------

    async def _look(self, watched: Watched, host: Host) -> None:
        try:
            standing = await self._mailboxes.standing(watched.email_id)
        except _STORE_FAULTS as error:
            host.tries = False
            self._not_stored(watched, error)
            return
        if standing.plan is None or standing.refused:
            # Gone, or nothing will change until the user acts: an effect then says so.
            host.tries = False
            self._cut(watched)
            return
        if not self._has_room(standing.user_id):
            host.tries = False
            self._later(watched, pace.poll_s(self._pace, self._ambient.random()))
            return
        client, places = watched.client, watched.places
        watched.client = None
        if places is None:
            places = self._connections.of_watchers(standing.plan)
            if not places.try_take(_now_s() - pace.HOLD_S):
                host.tries = False
                self._later(watched, pace.poll_s(self._pace, self._ambient.random()) / 2)
                return
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
        self.looks += 1
        seen = Seen(self._mailboxes, self._known, watched.email_id, plan)
        try:
            if client is None:
                await self._signing.check(watched.email_id, plan, seen)
                host.answered()
            else:
                await self._looking.again(client, plan, seen, renews=not watched.news)
        except CheckFailed as failed:
            if client is None:
                await self._failed(watched, host, failed.outcome)
            else:
                # The connection had ended, as connections do. A new one shows whether there is a failure.
                self._later(watched, pace.spread_s(host.watched, self._ambient.random()))
            return False
        except MailboxGone:
            return False
        except _STORE_FAULTS as error:
            self._not_stored(watched, error)
            return False
        watched.failures = 0
        async with Cutting(seen.client):
            if watched.told or standing.failed:
                await self._told(watched, WatchState("ok"))
                watched.told = False
            return await self._wait(watched, places, plan, seen.client)

    async def _wait(self, watched: Watched, places: Places, plan: Plan, client: ImapClient | None) -> bool:
        """Wait in IDLE if the server offers it, else for the next look."""
        provider = self._providers.of(plan.mail_type, plan.server, plan.port)
        stays = self._watched.get(watched.email_id) is watched and not watched.anew
        if client is not None and client.idles and provider.idle and stays:
            watched.news = False
            try:
                await client.begin_idle(partial(self._news, watched))
            except MailFault:
                client.abort()
            else:
                watched.client, watched.places = client, places
                now_s = _now_s()
                self._later(watched, pace.renew_s(self._pace, self._ambient.random()))
                places.lend(watched.email_id, now_s, partial(self._evicted, watched))
                return True
        elif client is not None:
            await client.logout(_LOGOUT_S)
        self._later(watched, pace.poll_s(self._pace, self._ambient.random()))
        return False

    def _news(self, watched: Watched) -> None:
        """The server said something, or the connection ended. If its look runs still, its end sees to it."""
        watched.news = True
        if not watched.running and self._open:
            lost = watched.client is not None and watched.client.lost
            host = self._host(watched)
            self._later(watched, pace.spread_s(host.watched, self._ambient.random()) if lost else 0.0)

    def _evicted(self, watched: Watched) -> None:
        """A check, or another watcher, needs the place."""
        client, watched.client, watched.places = watched.client, None, None
        if client is not None:
            client.abort()
        self._later(watched, pace.poll_s(self._pace, self._ambient.random()))

    def _cut(self, watched: Watched) -> None:
        """Cut the connection that waits in IDLE, if there is one."""
        client, places = watched.client, watched.places
        watched.client = watched.places = None
        if client is not None:
            client.abort()
        if places is not None:
            places.wake(watched.email_id)
            places.give()

    # -- how it fares -------------------------------------------------------------------------------

    async def _failed(self, watched: Watched, host: Host, outcome: Outcome) -> None:
        chance = self._ambient.random()
        now_s = _now_s()
        watched.failures += 1
        if host.failed(outcome, now_s, chance):
            self._later(watched, max(host.until_s - now_s, 0.5))
            failures = host.failures
        elif outcome.status == "need_reauth":
            failures = TOLD_FROM
        elif not outcome.retry:
            self._later(watched, pace.hopeless_s(chance))
            failures = TOLD_FROM
        else:
            self._later(watched, pace.again_s(watched.failures, chance))
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
            await self._mailboxes.tell(watched.email_id, state)
        except _STORE_FAULTS as error:
            self._not_stored(watched, error)
            return False
        return True

    def _not_stored(self, watched: Watched, error: Exception) -> None:
        """The log, or the mailbox, gave no answer: look again soon."""
        _log.warning("watcher_without_log", email_id=watched.email_id, error=type(error).__name__)
        self._cut(watched)
        self._later(watched, pace.again_s(1, self._ambient.random()))

    async def _rows(self) -> AsyncIterator[tuple[int, str]]:
        before: bytes | None = None
        while rows := await self._log.rows(WATCHED, "", before=before, limit=_PAGE_ROWS):
            for key, host in rows:
                yield number_of(key), host.decode()
            before = rows[-1][0]
