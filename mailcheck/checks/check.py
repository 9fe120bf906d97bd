"""One check of one mailbox, over IMAP or by Graph, and signing in alone. Effects only: no event, no log.

The mailbox runs a check as a task and may cancel it at any time, which cuts the connection. The sink has
already stored every batch it was given, so the next check continues after the last one. Graph's ids are
texts. A mail is known by its immutable id, which the commit of the mail stores in a table; numbers in
place of UIDs are given in the order of arrival here. A link in the cursor says from which page the listing
goes on, so an interrupted check continues, and a listing that Graph begins anew tells nothing twice.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final

from huahuo.actors.effects.run import stage
from huahuo.eventstore.deadline import Deadline
from huahuo.mailcheck import zh
from huahuo.mailcheck.checks.check_effect import (
    CheckFailed,
    Environment,
    GraphTarget,
    Ok,
    Sink,
    Target,
)
from huahuo.mailcheck.checks.folder_reader import Progress, RawMail, Reading, fetched_mail
from huahuo.mailcheck.events import GRAPH_UIDVALIDITY, INBOX, FetchedMail, UidCursor
from huahuo.mailcheck.mime.charsets import one_line
from huahuo.mailcheck.records import SENDER_CHARS_MAX, SUBJECT_CHARS_MAX
from huahuo.mailcheck.servers import graph
from huahuo.mailcheck.servers.faults import Answer, CommandRefused, MailFault, TimedOut, classify
from huahuo.mailcheck.servers.graph import Graph, Listed
from huahuo.mailcheck.servers.imap_client import ImapClient
from huahuo.mailcheck.servers.imap_grammar import JUNK, chosen, selectable
from huahuo.mailcheck.servers.providers import Place


@contextmanager
def classified(*, over_http: bool = False) -> Iterator[None]:
    """Raise each MailFault of the block as CheckFailed, with its outcome."""
    try:
        yield
    except MailFault as fault:
        raise CheckFailed(classify(fault, over_http=over_http)) from fault


@asynccontextmanager
async def cutting(client: ImapClient | None, logout_timeout_s: float) -> AsyncIterator[None]:
    """Cut the connection if the block does not end well. A server that only refused is told goodbye."""
    try:
        yield
    except BaseException as error:
        if client is not None and isinstance(error, CommandRefused):
            await client.logout(logout_timeout_s)
        elif client is not None:
            client.abort()
        raise


@asynccontextmanager
async def delivering(environment: Environment) -> AsyncIterator[Deadline]:
    """A deadline that restarts with every batch. Raises TimedOut."""
    deadline = Deadline(environment.ambient, environment.limits.idle_timeout_s)
    try:
        async with deadline:
            yield deadline
    except TimeoutError:
        if deadline.expired():
            raise TimedOut("no mail for too long") from None
        raise


async def _connected(target: Target, environment: Environment) -> tuple[Place, ImapClient]:
    """The first place that can be reached, and a connection to it. If none can, the fault of the first."""
    first: MailFault | None = None
    limits = environment.limits
    for place in target.places:
        try:
            stream = await environment.network.open_stream(
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
                environment.ambient,
                command_timeout_s=limits.command_timeout_s,
                fetch_timeout_s=limits.fetch_timeout_s,
            )
    assert first is not None, "a target has a place"
    raise first


async def signed_in(
    target: Target, environment: Environment, greeted: Callable[[], Awaitable[None]] | None = None
) -> ImapClient:
    """A connection that is signed in. `greeted` is called before a password is sent. Raises MailFault."""
    with stage("imap connect"):
        place, client = await _connected(target, environment)
    async with cutting(client, environment.limits.logout_timeout_s), delivering(environment):
        with stage("imap greet"):
            await client.greet()
            await client.secure(place.tls)
        if greeted is not None:
            await greeted()
        with stage("imap sign in"):
            await client.sign_in(target.auth, target.user, target.secret, host=place.host, port=place.port)
            await client.identify()
    return client


_PERCENT_CONNECTING = 0
_PERCENT_LOGIN = 10


async def check(
    target: Target | GraphTarget, since: UidCursor | None, sink: Sink, *, environment: Environment
) -> Ok:
    """Fetch every mail that `since`, for INBOX, and the target's cursors do not cover. Hand it to `sink`.

    Raises:
        CheckFailed: with the classified outcome. Exceptions of `sink` pass through unchanged.
    """
    if isinstance(target, GraphTarget):
        with classified(over_http=True):
            return await _GraphCheck(target, since, sink, environment).run()
    cursors = {**target.cursors, **({} if since is None else {INBOX: since})}
    reading = Reading(cursors, sink, environment, folders=target.folders)
    with classified():
        await reading.progress.step(_PERCENT_CONNECTING, zh.CONNECTING)
        client = await signed_in(
            target, environment, lambda: reading.progress.step(_PERCENT_LOGIN, zh.SIGNING_IN)
        )
        async with cutting(client, environment.limits.logout_timeout_s), delivering(environment) as deadline:
            with stage("imap inbox"):
                done = await reading.inbox(client, deadline)
            with stage("imap other folders"):
                await reading.others(client, deadline)
        await client.logout(environment.limits.logout_timeout_s)
        return done


JUNK_NAME: Final = "Junk Email"
"""What the folder of junk is called here. Graph has it under a fixed name, in whatever language."""
_PERCENT_FOLDER = 20
_PAGES_MAX = 100_000
"""A listing with more pages goes round in a circle."""


def graph_of(target: GraphTarget, environment: Environment) -> Graph:
    """The way to the mails of a mailbox."""
    return Graph(
        environment.requests,
        environment.ambient,
        url=target.url,
        token=target.token,
        renew=target.renew,
        proxy=target.proxy,
    )


class _GraphCheck:
    """One check under way."""

    def __init__(
        self, target: GraphTarget, since: UidCursor | None, sink: Sink, environment: Environment
    ) -> None:
        self._graph = graph_of(target, environment)
        self._target = target
        self._since = since
        self._sink = sink
        self._environment = environment
        self._limits = environment.limits
        self._progress = Progress(sink, environment.ambient, environment.limits.progress_per_s_max)
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
        now_ms = self._environment.ambient.now_ms()
        for mail in listed:
            if mail.told and self._limits.headers_first(mail.received_ms, now_ms):
                uid += 1
                mails.append(await self._by_listing(uid, mail, now_ms))
                continue
            answer = await self._graph.mail(mail.remote_id, self._limits.batch_bytes_max)
            async with self._environment.large_mails if answer is not None and answer.cut else nullcontext():
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
        now_ms = self._environment.ambient.now_ms()
        parse = partial(fetched_mail, codes=self._limits.codes, folder=self._cursor.folder)
        job = partial(parse, raw, GRAPH_UIDVALIDITY, now_ms, remote_id=mail.remote_id)
        return await self._environment.executor.run(job)

    async def _told(self) -> None:
        self._count += 1
        await self._progress.mail(self._count, self._count)

    def _at(self, uid: int, link: str) -> UidCursor:
        return UidCursor(self._cursor.folder, GRAPH_UIDVALIDITY, uid, link)


class Errand:
    """What is read of a mail server otherwise than by a check, and what takes it. This one only signs in.

    It stands in the place of a `Sink`. `graph`: whether only Graph, or only IMAP, has what is wanted.
    """

    graph: bool | None = None

    async def by_graph(self, graph: Graph, environment: Environment) -> None:
        """Read by Graph."""
        del environment
        await graph.folders()

    async def over_imap(self, client: ImapClient, environment: Environment) -> None:
        """Read on a connection that is signed in."""


class Folders(Errand):
    """What folders there are. `names` are in the order of the server; `junk` holds junk, "": none does."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.junk = ""

    async def by_graph(self, graph: Graph, environment: Environment) -> None:
        """See `Errand`."""
        del environment
        self.names = [name for _, name in await graph.folders()]

    async def over_imap(self, client: ImapClient, environment: Environment) -> None:
        """See `Errand`."""
        del environment
        listed = await client.folders()
        self.names = [folder.name for folder in selectable(listed)]
        self.junk = next((folder.name for folder in chosen(listed, ("junk",))), "")


async def run_errand(
    target: Target | GraphTarget, since: UidCursor | None, sink: Any, *, environment: Environment
) -> Ok:
    """Sign in, and read what `sink` wants if it is an `Errand`. Raises CheckFailed."""
    errand = sink if isinstance(sink, Errand) else Errand()
    by_graph, logout_s = isinstance(target, GraphTarget), environment.limits.logout_timeout_s
    if errand.graph in (None, by_graph):
        with classified(over_http=by_graph):
            if isinstance(target, GraphTarget):
                await errand.by_graph(graph_of(target, environment), environment)
            else:
                client = await signed_in(target, environment)
                async with cutting(client, logout_s):
                    await errand.over_imap(client, environment)
                await client.logout(logout_s)
    return Ok(0, since or UidCursor("", 0, 0), resynced=False)
