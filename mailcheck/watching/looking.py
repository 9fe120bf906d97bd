"""One look at a mailbox, over a new connection or over one that was waiting in IDLE.

What is found goes to the mailbox as `MailsSeen`: no check is open, and no progress is told.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.executor import Executor
from huahuo.mailcheck.checks.graph_check import check_graph
from huahuo.mailcheck.checks.known import KnownMails
from huahuo.mailcheck.checks.mailboxes import Mailboxes
from huahuo.mailcheck.checks.ports import CheckFailed, CheckLimits, GraphTarget, Ok, Sink, Target
from huahuo.mailcheck.checks.reading import Reading
from huahuo.mailcheck.checks.session import connected, greet, sign_in
from huahuo.mailcheck.fetched import INBOX, FetchedMail, UidCursor
from huahuo.mailcheck.imap.client import ImapClient
from huahuo.mailcheck.imap.network import Network
from huahuo.mailcheck.imap.outcome import classify
from huahuo.mailcheck.mailbox.commands import MailsSeen, NoMailbox, Plan, SeeUnread
from huahuo.mailcheck.servers.faults import MailFault, TimedOut
from huahuo.mailcheck.web.requests import Requests

_NEWEST: Final = 100
"""A watcher tells at most this many mails of a folder that was never read. The rest is for a check."""


class MailboxGone(Exception):  # noqa: N818  a fact about the mailbox
    """The mailbox was deleted meanwhile."""


class Seen:
    """See `Sink`. `client` is the connection, if one was made and may be kept."""

    def __init__(self, mailboxes: Mailboxes, known: KnownMails, email_id: int, plan: Plan) -> None:
        self.client: ImapClient | None = None
        self._mailboxes = mailboxes
        self._known = known
        self._email_id = email_id
        self._plan = plan

    async def progress(self, percent: int, message: str) -> None:
        """See `Sink`."""

    async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
        """See `Sink`."""
        async with self._known.storing(self._email_id):
            mails = await self._known.unknown(self._email_id, batch)
            equals = await self._known.equal_to(self._email_id, self._plan, mails)
            answer = await self._mailboxes.tell(self._email_id, MailsSeen(mails, cursor, equals))
        if isinstance(answer.reply, NoMailbox):
            raise MailboxGone

    async def unread(self, folder: str, uidvalidity: int, uids: str) -> None:
        """See `Sink`."""
        await self._mailboxes.tell(self._email_id, SeeUnread(folder, uidvalidity, uids))


class Looking:
    """Everything that looks need but the mailbox. A look raises CheckFailed, and what its sink raises."""

    def __init__(
        self,
        limits: CheckLimits,
        *,
        network: Network,
        requests: Requests,
        large_mails: asyncio.Semaphore,
        executor: Executor,
        ambient: Ambient,
    ) -> None:
        self._limits = limits
        self._network = network
        self._requests = requests
        self._large_mails = large_mails
        self._executor = executor
        self._ambient = ambient

    def _reading(
        self, cursors: Mapping[str, UidCursor], sink: Seen, folders: tuple[str, ...] | None
    ) -> Reading:
        shared = self._limits, self._large_mails, self._executor, self._ambient
        return Reading(cursors, sink, *shared, newest=_NEWEST, folders=folders)

    async def new(self, target: Target | GraphTarget, since: UidCursor | None, sink: Sink) -> Ok:
        """Look over a new connection, or by Graph. See `CheckMail`."""
        assert isinstance(sink, Seen), "watchers only"
        if isinstance(target, GraphTarget):
            return await check_graph(
                target,
                since,
                sink=sink,
                limits=self._limits,
                requests=self._requests,
                large_mails=self._large_mails,
                executor=self._executor,
                ambient=self._ambient,
            )
        return await self._classified(lambda: self._over_imap(target, since, sink))

    async def again(self, client: ImapClient, plan: Plan, sink: Seen, *, renews: bool) -> Ok:
        """Look over a connection that waits in IDLE. After a failure it is cut.

        `renews`: not for news of INBOX, so other folders are read too.
        """

        async def look() -> Ok:
            async with Cutting(client):
                await client.end_idle()
                done = await self._read(client, plan.cursors, plan.folders, sink, others=renews)
            sink.client = client
            return done

        return await self._classified(look)

    async def _over_imap(self, target: Target, since: UidCursor | None, sink: Seen) -> Ok:
        place, client = await connected(target, self._network, self._limits, self._ambient)
        async with Cutting(client):
            await greet(client, place)
            await sign_in(client, target, place)
            cursors = target.cursors if since is None else {**target.cursors, INBOX: since}
            done = await self._read(client, cursors, target.folders, sink, others=True)
        sink.client = client
        return done

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
        reading = self._reading(cursors, sink, folders)
        deadline = Deadline(self._ambient, self._limits.idle_timeout_s)
        try:
            async with deadline:
                if others:
                    await reading.others(client, deadline)
                done = await reading.inbox(client, deadline)
        except TimeoutError:
            if deadline.expired():
                raise TimedOut("no mail for too long") from None
            raise
        await sink.mails([], done.cursor)
        return done

    async def _classified(self, look: Callable[[], Awaitable[Ok]]) -> Ok:
        try:
            return await look()
        except MailFault as fault:
            raise CheckFailed(classify(fault)) from fault


class Cutting:
    """`async with Cutting(client)`: the connection is cut if the block does not end well."""

    def __init__(self, client: ImapClient | None) -> None:
        self._client = client

    async def __aenter__(self) -> None:
        """Nothing to do."""

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._client is not None:
            self._client.abort()
