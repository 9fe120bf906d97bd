"""One check of one mailbox, over IMAP or by Graph, and signing in alone. Effects only: no event, no log.

The mailbox runs a check as a task and may cancel it at any time, which cuts the connection. The sink has
already stored every batch it was given, so the next check continues after the last one. Graph's ids are
texts. A mail is known by its immutable id, which the commit of the mail stores in a table; numbers in
place of UIDs are given in the order of arrival here. A link in the cursor says from which page the listing
goes on, so an interrupted check continues, and a listing that Graph begins anew tells nothing twice.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Final

from huahuo.actors.effects.run import stage
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.executor import Executor
from huahuo.mailcheck import zh
from huahuo.mailcheck.checks.check_effect import (
    CheckFailed,
    CheckLimits,
    GraphTarget,
    NoReports,
    Ok,
    Sink,
    Target,
)
from huahuo.mailcheck.checks.folder_reader import Progress, RawMail, Reading, fetched_mail
from huahuo.mailcheck.fetched import GRAPH_UIDVALIDITY, INBOX, FetchedMail, UidCursor
from huahuo.mailcheck.mime.charsets import one_line
from huahuo.mailcheck.records import SENDER_CHARS_MAX, SUBJECT_CHARS_MAX
from huahuo.mailcheck.servers import graph
from huahuo.mailcheck.servers.faults import CommandRefused, MailFault, TimedOut
from huahuo.mailcheck.servers.graph import Graph, Listed, Requests
from huahuo.mailcheck.servers.imap_client import ImapClient
from huahuo.mailcheck.servers.imap_grammar import JUNK, chosen, selectable
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.outcome import Answer, classify
from huahuo.mailcheck.servers.providers import Place


@contextmanager
def classified(target: Target | GraphTarget) -> Iterator[None]:
    """Raise each MailFault of the block as CheckFailed, with its outcome."""
    try:
        yield
    except MailFault as fault:
        raise CheckFailed(classify(fault, over_http=isinstance(target, GraphTarget))) from fault


async def connected(
    target: Target, network: Network, limits: CheckLimits, ambient: Ambient
) -> tuple[Place, ImapClient]:
    """The first place that can be reached, and a connection to it. If none can, the fault of the first."""
    first: MailFault | None = None
    for place in target.places:
        try:
            stream = await network.open_stream(
                place.host,
                place.port,
                use_ssl=place.tls == "implicit",
                timeout_s=limits.connect_timeout_s,
                listed=place.listed,
                proxy=target.proxy,
            )
        except MailFault as fault:
            first = first or fault
        else:
            return place, ImapClient(
                stream,
                ambient,
                command_timeout_s=limits.command_timeout_s,
                fetch_timeout_s=limits.fetch_timeout_s,
            )
    assert first is not None, "a target has a place"
    raise first


async def greet(client: ImapClient, place: Place) -> None:
    """Begin a new connection. Raises MailFault."""
    await client.greet()
    await client.secure(place.tls)


async def sign_in(client: ImapClient, target: Target, place: Place) -> None:
    """Sign in after `greet`. Raises MailFault."""
    await client.sign_in(target.auth, target.user, target.secret, host=place.host, port=place.port)
    await client.identify()


_PERCENT_CONNECTING = 0
_PERCENT_LOGIN = 10


async def check(
    target: Target,
    since: UidCursor | None,
    *,
    sink: Sink,
    limits: CheckLimits,
    network: Network,
    large_mails: asyncio.Semaphore,
    executor: Executor,
    ambient: Ambient,
) -> Ok:
    """Fetch every mail that `since`, for INBOX, and the target's cursors do not cover. Hand it to `sink`.

    `large_mails`, shared by all checks, is held while a mail larger than a batch is in memory.

    Raises:
        CheckFailed: with the classified outcome. Exceptions of `sink` pass through unchanged.
    """
    cursors = {**target.cursors, **({} if since is None else {INBOX: since})}
    reading = Reading(cursors, sink, limits, large_mails, executor, ambient, folders=target.folders)
    with classified(target):
        return await _run(target, reading, limits, network, ambient)


async def _run(
    target: Target, reading: Reading, limits: CheckLimits, network: Network, ambient: Ambient
) -> Ok:
    """Connect, read, log out. After a cancel or a broken connection, skip the logout."""
    await reading.progress.step(_PERCENT_CONNECTING, zh.CONNECTING)
    with stage("imap connect"):
        place, client = await connected(target, network, limits, ambient)
    listens = False
    try:
        done = await _session(client, target, place, reading, Deadline(ambient, limits.idle_timeout_s))
        listens = True
    except CommandRefused:
        listens = True
        raise
    finally:
        if listens:
            await client.logout(limits.logout_timeout_s)
        else:
            client.abort()
    return done


async def _session(
    client: ImapClient, target: Target, place: Place, reading: Reading, deadline: Deadline
) -> Ok:
    """Sign in and read. The deadline restarts with every batch."""
    try:
        async with deadline:
            with stage("imap greet"):
                await greet(client, place)
            await reading.progress.step(_PERCENT_LOGIN, zh.SIGNING_IN)
            with stage("imap sign in"):
                await sign_in(client, target, place)
            with stage("imap inbox"):
                done = await reading.inbox(client, deadline)
            with stage("imap other folders"):
                await reading.others(client, deadline)
            return done
    except TimeoutError:
        if deadline.expired():
            raise TimedOut("no mail for too long") from None
        raise


JUNK_NAME: Final = "Junk Email"
"""What the folder of junk is called here. Graph has it under a fixed name, in whatever language."""
_PERCENT_FOLDER = 20
_PAGES_MAX = 100_000
"""A listing with more pages goes round in a circle."""


def graph_of(target: GraphTarget, requests: Requests, ambient: Ambient) -> Graph:
    """The way to the mails of a mailbox."""
    return Graph(
        requests, ambient, url=target.url, token=target.token, renew=target.renew, proxy=target.proxy
    )


async def check_graph(
    target: GraphTarget,
    since: UidCursor | None,
    *,
    sink: Sink,
    limits: CheckLimits,
    requests: Requests,
    large_mails: asyncio.Semaphore,
    executor: Executor,
    ambient: Ambient,
) -> Ok:
    """Fetch every mail of the wanted folders that is not known and hand it to `sink`.

    Raises:
        CheckFailed: with the classified outcome. Exceptions of `sink` pass through unchanged.
    """
    run = _Run(
        graph_of(target, requests, ambient), target, since, sink, limits, large_mails, executor, ambient
    )
    with classified(target):
        return await run.run()


class _Run:
    """One check under way."""

    def __init__(
        self,
        graph: Graph,
        target: GraphTarget,
        since: UidCursor | None,
        sink: Sink,
        limits: CheckLimits,
        large_mails: asyncio.Semaphore,
        executor: Executor,
        ambient: Ambient,
    ) -> None:
        self._graph = graph
        self._target = target
        self._since = since
        self._sink = sink
        self._limits = limits
        self._large_mails = large_mails
        self._executor = executor
        self._ambient = ambient
        self._progress = Progress(sink, ambient, limits.progress_per_s_max)
        self._cursor = UidCursor(INBOX, GRAPH_UIDVALIDITY, 0)
        self._count = 0

    async def run(self) -> Ok:
        """The inbox, and then the other folders that are wanted, as far as the mailbox has them."""
        await self._progress.step(_PERCENT_LOGIN, zh.CONNECTING_GRAPH)
        since = self._since
        with stage("graph inbox"):
            await self._folder(graph.INBOX, INBOX, since)
        done = Ok(self._count, self._cursor, since is not None and since.uidvalidity != GRAPH_UIDVALIDITY)
        with stage("graph other folders"):
            await self._read_others()
        return done

    async def _read_others(self) -> None:
        for folder, name in await self._others():
            known = self._target.cursors.get(name)
            try:
                await self._folder(folder, name, known)
            except CommandRefused:
                continue  # there is no such folder
            if known is None or self._cursor.uid != known.uid or not known.link:
                await self._sink.mails([], self._cursor)

    async def _others(self) -> list[tuple[str, str]]:
        """(what Graph calls it, its name here) of each folder besides the inbox."""
        wanted = self._limits.folders if self._target.folders is None else self._target.folders
        found = [(graph.JUNK, JUNK_NAME)] if any(name.casefold() == JUNK for name in wanted) else []
        named = [name for name in wanted if name.casefold() not in (JUNK, INBOX.casefold())]
        if named:
            ids = {name.casefold(): (number, name) for number, name in await self._graph.folders()}
            found += [ids[name.casefold()] for name in named if name.casefold() in ids]
        return found

    async def _folder(self, folder: str, name: str, since: UidCursor | None) -> None:
        known = since if since is not None and since.uidvalidity == GRAPH_UIDVALIDITY else None
        self._cursor = known or UidCursor(name, GRAPH_UIDVALIDITY, 0)
        link = self._cursor.link
        for _ in range(_PAGES_MAX):
            page = await self._graph.page(link, folder)
            await self._progress.step(_PERCENT_FOLDER, zh.OPENING_FOLDER.format(name))
            fresh = [mail for mail in page.mails if not await self._is_known(mail)]
            for index in range(0, len(fresh), self._limits.batch_mails_max):
                await self._take(fresh[index : index + self._limits.batch_mails_max])
            link = page.following
            # A page without links is the last; the next check then lists from the start.
            self._cursor = self._at(self._cursor.uid, link or page.later)
            if not link:
                return

    async def _is_known(self, mail: Listed) -> bool:
        if mail.received_ms is not None and mail.received_ms <= self._target.told_ms:
            return True
        return await self._target.known(mail.remote_id)

    async def _take(self, listed: list[Listed]) -> None:
        mails: list[FetchedMail] = []
        uid = self._cursor.uid
        now_ms = self._ambient.now_ms()
        for mail in listed:
            if mail.told and self._limits.headers_first(mail.received_ms, now_ms):
                uid += 1
                mails.append(await self._by_listing(uid, mail, now_ms))
                continue
            answer = await self._graph.mail(mail.remote_id, self._limits.batch_bytes_max)
            async with self._large_mails if answer is not None and answer.cut else nullcontext():
                if answer is not None and answer.cut:
                    answer = await self._graph.mail(mail.remote_id, self._limits.mail_bytes_max)
                if answer is None:
                    continue
                uid += 1
                mails.append(await self._parsed(uid, mail, answer))
        if mails:
            self._cursor = self._at(uid, self._cursor.link)
            await self._sink.mails(mails, self._cursor)

    async def _by_listing(self, uid: int, mail: Listed, now_ms: int) -> FetchedMail:
        """An older mail as the listing has it: the listing says what its headers would."""
        await self._told()
        return FetchedMail(
            folder=self._cursor.folder,
            uidvalidity=GRAPH_UIDVALIDITY,
            uid=uid,
            subject=one_line(mail.subject, chars_max=SUBJECT_CHARS_MAX),
            sender=one_line(mail.sender, chars_max=SENDER_CHARS_MAX),
            message_id=one_line(mail.message_id, chars_max=998),
            date_ms=now_ms if mail.received_ms is None else mail.received_ms,
            internal_date_ms=mail.received_ms,
            has_attachments=mail.has_attachments,
            size=0,
            truncated=False,
            content=b"",
            remote_id=mail.remote_id,
        )

    async def _parsed(self, uid: int, mail: Listed, answer: Answer) -> FetchedMail:
        body = answer.body[: self._limits.head_bytes_max] if answer.cut else answer.body
        raw = RawMail(uid, len(answer.body), mail.received_ms, body, answer.cut)
        await self._told()
        now_ms = self._ambient.now_ms()
        about: dict[str, Any] = {
            "codes": self._limits.codes,
            "remote_id": mail.remote_id,
            "folder": self._cursor.folder,
        }
        return await self._executor.run(partial(fetched_mail, raw, GRAPH_UIDVALIDITY, now_ms, **about))

    async def _told(self) -> None:
        self._count += 1
        await self._progress.mail(self._count, self._count)

    def _at(self, uid: int, link: str) -> UidCursor:
        return UidCursor(self._cursor.folder, GRAPH_UIDVALIDITY, uid, link)


class Folders(NoReports):
    """What was found.

    `names` are in the order of the server; `junk` is the one that holds junk, "" if there is none.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.junk = ""


class ServerReader[S]:
    """What reads a mail server otherwise than a check does. Implements `CheckMail` for its kind of sink."""

    def __init__(
        self, *, network: Network, requests: Requests, limits: CheckLimits, ambient: Ambient
    ) -> None:
        self._network = network
        self._requests = requests
        self._limits = limits
        self._ambient = ambient

    async def __call__(self, target: Target | GraphTarget, since: UidCursor | None, sink: Any) -> Ok:
        """Sign in, and read. Raises CheckFailed."""
        with classified(target):
            if isinstance(target, GraphTarget):
                await self._by_graph(graph_of(target, self._requests, self._ambient), sink)
            else:
                await self._session(target, since, sink)
        return Ok(0, since or UidCursor("", 0, 0), resynced=False)

    async def _session(self, target: Target, since: UidCursor | None, sink: S) -> None:
        with stage("imap connect"):
            place, client = await connected(target, self._network, self._limits, self._ambient)
        try:
            with stage("imap greet"):
                await greet(client, place)
            with stage("imap sign in"):
                await sign_in(client, target, place)
            await self._over_imap(client, since, sink)
            await client.logout(self._limits.logout_timeout_s)
        finally:
            client.abort()

    @abstractmethod
    async def _by_graph(self, graph: Graph, sink: S) -> None:
        """Read by Graph."""

    @abstractmethod
    async def _over_imap(self, client: ImapClient, since: UidCursor | None, sink: S) -> None:
        """Read on a connection that is signed in."""


class SigningInOnly(ServerReader[Sink]):
    """See the module. `sink` is a `Folders`, or of a check that only signs in."""

    async def _by_graph(self, graph: Graph, sink: Sink) -> None:
        folders = sink if isinstance(sink, Folders) else Folders()
        folders.names = [name for _, name in await graph.folders()]

    async def _over_imap(self, client: ImapClient, since: UidCursor | None, sink: Sink) -> None:
        del since
        if isinstance(sink, Folders):
            listed = await client.folders()
            sink.names = [folder.name for folder in selectable(listed)]
            sink.junk = next((folder.name for folder in chosen(listed, ("junk",))), "")
