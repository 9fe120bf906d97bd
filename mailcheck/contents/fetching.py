"""The contents of many mails of one mailbox, over one connection. Read-only, as a check. Effects only.

It takes the place of a check (`SigningIn`), so it signs in as a check of the mailbox does.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import msgspec
from imapclient.imap_utf7 import encode as encode_utf7

from huahuo.eventstore.ambient import Ambient, json_bytes
from huahuo.eventstore.executor import Executor
from huahuo.mailcheck.attachments.own_mails import OnServer
from huahuo.mailcheck.checks.fetching import RawMail, Reader, batches
from huahuo.mailcheck.checks.graph_check import graph_of
from huahuo.mailcheck.checks.no_reports import NoReports
from huahuo.mailcheck.checks.ports import CheckFailed, CheckLimits, GraphTarget, Ok, Sink, Target
from huahuo.mailcheck.checks.session import connected, greet, sign_in
from huahuo.mailcheck.fetched import UidCursor
from huahuo.mailcheck.imap.client import ImapClient
from huahuo.mailcheck.imap.network import Network
from huahuo.mailcheck.imap.outcome import classify
from huahuo.mailcheck.mime.mail import content_document, parse_mail
from huahuo.mailcheck.servers.faults import CommandRefused, MailFault
from huahuo.mailcheck.web.requests import Requests

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
