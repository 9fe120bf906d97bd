"""A look at a watched mailbox: a task in its turn, which may leave a connection in IDLE behind.

    due ──▶ its host's queue ──▶ a look ──▶ IDLE (no task, a renewal is due) ──news──▶ due at once
     ▲                             ├─▶ no IDLE: the next look is due
     └──── later, by chance ◀──────┴─▶ failed

Whose turn it is, `turns` knows.

Which mailboxes this node watches. Effects only; what is watched is in the table `watched`.

Whose turn it is, `turns` knows; what is done in a turn, `looks`. A mailbox whose sign-in was refused has no
turn until something about its sign-in changes.
"""

from collections.abc import Callable, Coroutine
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
from huahuo.mailcheck.checks.check_effect import CheckFailed
from huahuo.mailcheck.checks.connections import Connections, Places
from huahuo.mailcheck.checks.look import NEVER_S, Looking, MailboxGone, Seen, Turns, Watched, now_s
from huahuo.mailcheck.checks.mailboxes import Mailboxes, Standing, every_row
from huahuo.mailcheck.checks.sign_in import SigningIn
from huahuo.mailcheck.mailbox.commands import Plan, WatchState
from huahuo.mailcheck.records import WATCHED, number_of
from huahuo.mailcheck.servers.faults import MailFault
from huahuo.mailcheck.servers.imap_client import ImapClient
from huahuo.mailcheck.servers.outcome import Outcome
from huahuo.mailcheck.servers.providers import Providers

_LOGOUT_S: Final = 2.0
_STORE_FAULTS: Final = (EntityError, AskTimeout, EventStoreError)

_log = structlog.get_logger(__name__)


@dataclass(eq=False, kw_only=True)
class Looks:
    """See the module. Implements `turns.Work`. All methods belong to the loop's thread."""

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
        self.turns = Turns(self, at_once=at_once, per_host=per_host)
        self._random = self.mailboxes.ambient.random

    def begin(self, watched: Watched, host: Host) -> Coroutine[Any, Any, None] | None:
        """See `Work`."""
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
        """See `Work`."""
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
            self._turns.leave_host(watched)
            watched.due_s = NEVER_S

    def look_again(self, email_id: int) -> None:
        """A check of the mailbox succeeded after a failure."""
        watched = self._turns.watched.get(email_id)
        if watched is not None and watched.client is None and not watched.running:
            watched.told, watched.failures = False, 0
            self._turns.later(watched, 0.0)

    def waits_for_sign_in(self, email_id: int) -> bool:
        """Whether the mailbox has no turn until something about its sign-in changes."""
        watched = self._turns.watched.get(email_id)
        return watched is not None and watched.due_s == NEVER_S and not watched.running

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
