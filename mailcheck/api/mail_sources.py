"""Mails of a user by their number: their records, and one or many mails read from the mail server.

Read-only, as a check, and effects only: no event, no log. A reading takes the place of a check
(`SigningIn`), so it signs in as a check of the mailbox does.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import msgspec
from imapclient.imap_utf7 import encode as encode_utf7

from huahuo.eventstore.ambient import json_bytes
from huahuo.mailcheck.checks.check import ServerReader
from huahuo.mailcheck.checks.check_effect import (
    GraphTarget,
    NoReports,
    Ok,
    Target,
)
from huahuo.mailcheck.checks.folder_reader import Reader, batches
from huahuo.mailcheck.fetched import GRAPH_UIDVALIDITY, UidCursor
from huahuo.mailcheck.mime.mail import content_document, parse_mail
from huahuo.mailcheck.records import MailRecord
from huahuo.mailcheck.servers.faults import CommandRefused
from huahuo.mailcheck.servers.graph import Graph
from huahuo.mailcheck.servers.imap_client import ImapClient


class OnServer(msgspec.Struct, frozen=True):
    """Where a mail was found. `remote_id`: its id at Graph, "" over IMAP."""

    folder: str
    uidvalidity: int
    uid: int
    remote_id: str = ""


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


class OneMail(ServerReader[Wanted]):
    """One mail from its server, as it is there. Read-only, as a check. Effects only: no event, no log.

    `since` is the place of the mail.
    """

    async def __call__(self, target: Target | GraphTarget, since: UidCursor | None, sink: Any) -> Ok:
        """Read the mail. Raises CheckFailed."""
        assert since is not None, "the mail has a place"
        if bool(sink.remote_id) == isinstance(target, GraphTarget):
            return await super().__call__(target, since, sink)
        return Ok(0, since, resynced=False)  # it was found in the other way, and has no name there

    async def _by_graph(self, graph: Graph, sink: Wanted) -> None:
        answer = await graph.mail(sink.remote_id, self._limits.mail_bytes_max)
        sink.source = None if answer is None else answer.body

    async def _over_imap(self, client: ImapClient, since: UidCursor | None, sink: Wanted) -> None:
        assert since is not None, "the mail has a place"
        folder = await client.examine(encode_utf7(since.folder).decode())
        if folder.uidvalidity == since.uidvalidity:
            most = self._limits.mail_bytes_max
            found = await client.fetch_bodies([since.uid], bytes_expected=most, bytes_max_each=most)
            sink.source = found[since.uid].body if since.uid in found else None


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


class ManyMails(ServerReader[Filler]):
    """The contents of many mails of one mailbox, over one connection. Read-only, as a check. Effects only."""

    async def _by_graph(self, graph: Graph, sink: Filler) -> None:
        while page := await sink.page():
            for one in page:
                remote_id = "" if one.place is None else one.place.remote_id
                async with self._environment.large_mails:
                    answer = await graph.mail(remote_id, self._limits.mail_bytes_max) if remote_id else None
                    content = (
                        (GONE, False) if answer is None else await self._content(answer.body, answer.cut)
                    )
                if not await sink.keep({one.mail_id: content}):
                    return

    async def _over_imap(self, client: ImapClient, since: UidCursor | None, sink: Filler) -> None:
        del since
        while page := await sink.page():
            lost = [one for one in page if one.place is None or one.place.remote_id]
            if lost and not await sink.keep({one.mail_id: (GONE, False) for one in lost}):
                return
            folders: dict[tuple[str, int], dict[int, int]] = defaultdict(dict)
            for one in page:
                if one.place is not None and not one.place.remote_id:
                    at = one.place
                    folders[at.folder, at.uidvalidity][at.uid] = one.mail_id
            for (folder, uidvalidity), wanted in folders.items():
                if not await self._folder(client, folder, uidvalidity, wanted, sink):
                    return

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
            async with self._environment.large_mails if reader.is_heavy(batch) else nullcontext():
                raws = await reader.read(batch)
                contents = {wanted.pop(raw.uid): await self._content(raw.body, raw.truncated) for raw in raws}
            if not await filler.keep(contents):
                return False
        return await filler.keep(dict.fromkeys(wanted.values(), (GONE, False)))

    async def _content(self, body: bytes, truncated: bool) -> tuple[bytes, bool]:
        return await self._environment.executor.run(partial(_document, body, truncated))


def _document(body: bytes, truncated: bool) -> tuple[bytes, bool]:
    mail = parse_mail(body)
    return content_document(mail, truncated=truncated), mail.has_attachments
