"""Mails of a user by their number: their records, and one or many mails read from the mail server.

Read-only, as a check, and effects only: no event, no log. A reading takes the place of a check
(`SigningIn`), so it signs in as a check of the mailbox does.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Final

import msgspec
from imapclient.imap_utf7 import encode as encode_utf7

from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Query
from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.ambient import Ambient, json_bytes
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.port import Log
from huahuo.mailcheck.checks.check import connected, graph_of, greet, sign_in
from huahuo.mailcheck.checks.check_effect import (
    CheckFailed,
    CheckLimits,
    GraphTarget,
    NoReports,
    Ok,
    Sink,
    Target,
)
from huahuo.mailcheck.checks.folder_reader import RawMail, Reader, batches
from huahuo.mailcheck.fetched import GRAPH_UIDVALIDITY, UidCursor
from huahuo.mailcheck.mailbox.state import Mailbox
from huahuo.mailcheck.mime.mail import content_document, parse_mail
from huahuo.mailcheck.records import MAIL, MAILS, SOURCES, MailPlace, MailRecord, Row, mail_key, record_key
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.servers.faults import CommandRefused, MailFault
from huahuo.mailcheck.servers.graph import Requests
from huahuo.mailcheck.servers.imap_client import ImapClient
from huahuo.mailcheck.servers.imap_connection import ImapStream
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.outcome import classify
from huahuo.mailcheck.servers.providers import Place

_ROSTER: Final = "roster"
_MAILBOX: Final = "mailbox"


class OnServer(msgspec.Struct, frozen=True):
    """Where a mail was found. `remote_id`: its id at Graph, "" over IMAP."""

    folder: str
    uidvalidity: int
    uid: int
    remote_id: str = ""


class OwnMails:
    """See the module. Exceptions of the log and the entities pass through."""

    def __init__(self, log: Log, directory: Directory) -> None:
        self._log = log
        self._directory = directory

    async def mailbox(self, user_id: UserId, email_id: int) -> Row | None:
        """A mailbox of this user."""

        def look(_seq: int, state: Roster) -> Row | None:
            return state.rows.get(email_id)

        row: Row | None = await self._directory.ask(_ROSTER, user_id, Query(look))
        return row

    async def owner(self, email_id: int) -> UserId | None:
        """Whose mailbox this is, None if there is none: for administrators."""

        def look(_seq: int, state: Mailbox) -> UserId | None:
            return state.user_id if state.exists else None

        owner: UserId | None = await self._directory.ask(_MAILBOX, email_id, Query(look))
        return owner

    async def record(self, user_id: UserId, mail_id: int) -> MailRecord | None:
        """A mail of this user. Records outlive their mailbox for a while; the roster says what there is."""
        found = None if mail_id < 0 else await self._log.row(MAIL, "", mail_key(mail_id))
        if found is None:
            return None
        place = msgspec.json.decode(found, type=MailPlace)
        if place.user_id != user_id or await self.mailbox(user_id, place.email_id) is None:
            return None
        value = await self._log.row(MAILS, str(place.email_id), record_key(place.received_ms, mail_id))
        return None if value is None else msgspec.json.decode(value, type=MailRecord)

    async def source(self, record: MailRecord) -> bytes | None:
        """The whole mail, where it is kept here because it came from a file. Raises Corrupt."""
        blob = await self._log.row(SOURCES, str(record.email_id), mail_key(record.mail_id))
        return None if blob is None else await self._log.blob(blob.decode())


def on_server(record: MailRecord) -> OnServer | None:
    """Where the mail was found last; None if it never was on a server."""
    if record.uidvalidity == GRAPH_UIDVALIDITY and not record.remote_id:
        return None
    return OnServer(record.folder, record.uidvalidity, record.uid, record.remote_id or "")


class Wanted(NoReports):
    """What is read, and its text.

    `remote_id`: its id at Graph, "" over IMAP. `source` is None if the mail is not there any more.
    """

    def __init__(self, remote_id: str) -> None:
        self.remote_id = remote_id
        self.source: bytes | None = None


class OneMail:
    """See the module. Implements `CheckMail`: `since` is the place of the mail, `sink` a `Wanted`."""

    def __init__(
        self, *, network: Network, requests: Requests, limits: CheckLimits, ambient: Ambient
    ) -> None:
        self._network = network
        self._requests = requests
        self._limits = limits
        self._ambient = ambient

    async def __call__(self, target: Target | GraphTarget, since: UidCursor | None, sink: Sink) -> Ok:
        """Read the mail. Raises CheckFailed."""
        assert isinstance(sink, Wanted)
        assert since is not None, "the mail has a place"
        try:
            if isinstance(target, GraphTarget):
                await self._by_graph(target, sink)
            else:
                await self._over_imap(target, since, sink)
        except MailFault as fault:
            by_graph = isinstance(target, GraphTarget)
            raise CheckFailed(classify(fault, over_http=by_graph)) from fault
        return Ok(0, since, resynced=False)

    async def _by_graph(self, target: GraphTarget, wanted: Wanted) -> None:
        if not wanted.remote_id:
            return  # it was found over IMAP, and has no name there
        graph = graph_of(target, self._requests, self._ambient)
        answer = await graph.mail(wanted.remote_id, self._limits.mail_bytes_max)
        wanted.source = None if answer is None else answer.body

    async def _over_imap(self, target: Target, place: UidCursor, wanted: Wanted) -> None:
        if wanted.remote_id:
            return
        limits = self._limits
        where, stream = await self._connected(target)
        client = ImapClient(
            stream, self._ambient, command_timeout_s=limits.command_timeout_s,
            fetch_timeout_s=limits.fetch_timeout_s,
        )  # fmt: skip
        try:
            await client.greet()
            await client.secure(where.tls)
            await client.sign_in(target.auth, target.user, target.secret, host=where.host, port=where.port)
            await client.identify()
            folder = await client.examine(encode_utf7(place.folder).decode())
            if folder.uidvalidity == place.uidvalidity:
                most = limits.mail_bytes_max
                found = await client.fetch_bodies([place.uid], bytes_expected=most, bytes_max_each=most)
                wanted.source = found[place.uid].body if place.uid in found else None
            await client.logout(limits.logout_timeout_s)
        finally:
            client.abort()

    async def _connected(self, target: Target) -> tuple[Place, ImapStream]:
        """The first place that can be reached. If none can, the fault of the first."""
        first: MailFault | None = None
        for place in target.places:
            try:
                return place, await self._network.open_stream(
                    place.host, place.port, use_ssl=place.tls == "implicit",
                    timeout_s=self._limits.connect_timeout_s, listed=place.listed, proxy=target.proxy,
                )  # fmt: skip
            except MailFault as fault:
                first = first or fault
        assert first is not None, "a target has a place"
        raise first


GONE = json_bytes({"text": "", "html": "", "attachments": [], "to": "", "cc": "", "truncated": True})
"""The content of a mail that was gone from its server before its text was read."""

type Contents = Mapping[int, tuple[bytes, bool]]
"""By mail id: the content, and whether it has attachments."""


class Missing(msgspec.Struct, frozen=True):
    """A mail whose content is wanted. `place` None: it must be searched for."""

    mail_id: int
    place: OnServer | None


class Filler(NoReports):
    """What is wanted of one mailbox, page by page, and what takes it.

    `page`: the next mails, none at the end. `keep`: false ends the reading.
    """

    def __init__(
        self,
        page: Callable[[], Awaitable[Sequence[Missing]]],
        keep: Callable[[Contents], Awaitable[bool]],
    ) -> None:
        self.page = page
        self.keep = keep


class ManyMails:
    """See the module. Implements `CheckMail`; `sink` is a `Filler`."""

    def __init__(
        self,
        *,
        network: Network,
        requests: Requests,
        limits: CheckLimits,
        large_mails: asyncio.Semaphore,
        executor: Executor,
        ambient: Ambient,
    ) -> None:
        self._network = network
        self._requests = requests
        self._limits = limits
        self._large_mails = large_mails
        self._executor = executor
        self._ambient = ambient

    async def __call__(self, target: Target | GraphTarget, since: UidCursor | None, sink: Sink) -> Ok:
        """Read until no mail is wanted. Raises CheckFailed."""
        assert isinstance(sink, Filler)
        try:
            if isinstance(target, GraphTarget):
                await self._by_graph(target, sink)
            else:
                await self._over_imap(target, sink)
        except MailFault as fault:
            by_graph = isinstance(target, GraphTarget)
            raise CheckFailed(classify(fault, over_http=by_graph)) from fault
        return Ok(0, since or UidCursor("", 0, 0), resynced=False)

    async def _by_graph(self, target: GraphTarget, filler: Filler) -> None:
        graph = graph_of(target, self._requests, self._ambient)
        while page := await filler.page():
            for one in page:
                remote_id = "" if one.place is None else one.place.remote_id
                async with self._large_mails:
                    answer = await graph.mail(remote_id, self._limits.mail_bytes_max) if remote_id else None
                    content = (
                        (GONE, False) if answer is None else await self._content(answer.body, answer.cut)
                    )
                if not await filler.keep({one.mail_id: content}):
                    return

    async def _over_imap(self, target: Target, filler: Filler) -> None:
        place, client = await connected(target, self._network, self._limits, self._ambient)
        try:
            await greet(client, place)
            await sign_in(client, target, place)
            while page := await filler.page():
                lost = [one for one in page if one.place is None or one.place.remote_id]
                if lost and not await filler.keep({one.mail_id: (GONE, False) for one in lost}):
                    return
                folders: dict[tuple[str, int], dict[int, int]] = defaultdict(dict)
                for one in page:
                    if one.place is not None and not one.place.remote_id:
                        at = one.place
                        folders[at.folder, at.uidvalidity][at.uid] = one.mail_id
                for (folder, uidvalidity), wanted in folders.items():
                    if not await self._folder(client, folder, uidvalidity, wanted, filler):
                        return
            await client.logout(self._limits.logout_timeout_s)
        finally:
            client.abort()

    async def _folder(
        self, client: ImapClient, folder: str, uidvalidity: int, wanted: dict[int, int], filler: Filler
    ) -> bool:
        """Mails of one folder, by UID. Those that are not there any more are gone."""
        uids = sorted(wanted)
        try:
            opened = await client.examine(encode_utf7(folder).decode())
        except CommandRefused as refused:
            if refused.command != "EXAMINE":
                raise
            uids = []
        else:
            uids = uids if opened.uidvalidity == uidvalidity else []
        reader = Reader(client, uids, self._limits)
        there = await reader.sizes(uids) if uids else []
        for batch in reversed(list(batches(there, self._limits))):
            async with self._large_mails if reader.is_heavy(batch) else nullcontext():
                raws = await reader.read(batch)
                contents = {wanted.pop(raw.uid): await self._parsed(raw) for raw in raws}
            if not await filler.keep(contents):
                return False
        return await filler.keep(dict.fromkeys(wanted.values(), (GONE, False)))

    async def _parsed(self, raw: RawMail) -> tuple[bytes, bool]:
        return await self._content(raw.body, raw.truncated)

    async def _content(self, body: bytes, truncated: bool) -> tuple[bytes, bool]:
        return await self._executor.run(partial(_document, body, truncated))


def _document(body: bytes, truncated: bool) -> tuple[bytes, bool]:
    mail = parse_mail(body)
    return content_document(mail, truncated=truncated), mail.has_attachments
