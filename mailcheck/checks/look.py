"""One look at a watched mailbox, over a new connection or one in IDLE, and whose turn it is.

What is found goes to the mailbox as `MailsSeen`: no check is open, and no progress is told. A mailbox that
waits has an entry in one heap, under one timer. When it is due it stands in the queue of its host, those
with news before all others; hosts take turns, and few looks run at a time. What a look does, `Work` says.
"""

import asyncio
import heapq
from collections.abc import Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from huahuo.mailcheck.checks.backoff import Host
from huahuo.mailcheck.checks.check import check, classified, cutting, delivering, signed_in
from huahuo.mailcheck.checks.check_effect import Environment, GraphTarget, Ok, Sink, Target
from huahuo.mailcheck.checks.connections import Places
from huahuo.mailcheck.checks.folder_reader import Reading
from huahuo.mailcheck.checks.mailboxes import Mailboxes
from huahuo.mailcheck.fetched import INBOX, FetchedMail, UidCursor
from huahuo.mailcheck.mailbox.commands import MailsSeen, NoMailbox, Plan, SeeUnread
from huahuo.mailcheck.servers.imap_client import ImapClient

NEVER_S: Final = float("inf")


class Watched:
    """One watched mailbox. `due_s` is inf while it looks, or waits for its sign-in to change."""

    __slots__ = (
        "all_due_s",
        "anew",
        "client",
        "due_s",
        "email_id",
        "failures",
        "host",
        "news",
        "places",
        "running",
        "since_s",
        "told",
    )

    def __init__(self, email_id: int, host: str) -> None:
        self.email_id = email_id
        self.host = host
        self.due_s = NEVER_S
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

    def cut(self) -> None:
        """Cut the connection that waits in IDLE, if there is one."""
        client, places = self.client, self.places
        self.client = self.places = None
        if client is not None:
            client.abort()
        if places is not None:
            places.wake(self.email_id)
            places.give()


_SPARE: Final = 1_000
"""Entries of the heap that are out of date, besides three for each mailbox, before it is made anew."""


def now_s() -> float:
    """The time of the loop."""
    return asyncio.get_running_loop().time()


class Work(Protocol):
    """What is done in a turn."""

    def begin(self, watched: Watched, host: Host) -> Coroutine[Any, Any, None] | None:
        """What to do now that it is the mailbox's turn, None for nothing."""
        ...

    def ended(self, watched: Watched, host: Host, error: BaseException | None) -> None:
        """It is done."""
        ...


class Turns:
    """Whose turn it is among all watched mailboxes. All methods belong to the loop's thread."""

    def __init__(self, work: Work, *, at_once: int, per_host: int) -> None:
        self._work = work
        self._at_once = at_once
        self._per_host = per_host
        self.watched: dict[int, Watched] = {}
        self.hosts: dict[str, Host] = {}
        self._due: list[tuple[float, int]] = []
        self._ready: dict[str, Host] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
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
        watched.due_s = now_s() + wait_s
        heapq.heappush(self._due, (watched.due_s, watched.email_id))
        if len(self._due) > 4 * len(self.watched) + _SPARE:
            self._due = [(one.due_s, one.email_id) for one in self.watched.values() if one.due_s < NEVER_S]
            heapq.heapify(self._due)
        if self._due[0][1] == watched.email_id:
            self._arm()

    async def close(self) -> None:
        """End all looks, and begin none. Idempotent."""
        self.open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due and self.open:
            wait_s = max(0.0, self._due[0][0] - now_s())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = now_s()
        while self._due and self._due[0][0] <= now:
            due_s, email_id = heapq.heappop(self._due)
            watched = self.watched.get(email_id)
            if watched is not None and watched.due_s == due_s:
                watched.due_s = NEVER_S
                host = self.host_of(watched)
                host.append(email_id, news=watched.news)
                self._ready[watched.host] = host
        self._arm()
        self._pump()

    def _pump(self) -> None:
        """Begin looks, in turns for the hosts."""
        for name in list(self._ready):
            host = self._ready[name]
            while host.waits and host.running < self._per_host and len(self._tasks) < self._at_once:
                self._begin(self.watched.get(host.popleft()), name, host)
            if not host.waits:
                del self._ready[name]
            elif host.running < self._per_host:
                self._ready[name] = self._ready.pop(name)  # its turn comes first when a place is free
                return

    def _begin(self, watched: Watched | None, name: str, host: Host) -> None:
        if watched is None or watched.running or watched.host != name or not self.open:
            return
        if watched.due_s != NEVER_S:
            return  # it has got another turn since
        work = self._work.begin(watched, host)
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
        self._work.ended(watched, host, None if task.cancelled() else task.exception())
        if self.open:
            self._pump()


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
