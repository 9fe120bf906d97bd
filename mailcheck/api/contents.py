"""Contents and attachments of mails, from the log or from the mail server.

`get_attachment` and `get_source` read from the mail server, as attached files are not kept; a mail that
came from a file is kept whole, if it has attachments. Each user waits for a few at a time, each within its
time (`Asking`). `Filling` reads the rest of mails that were told by their headers, mailbox by mailbox,
newest first. Which mailboxes have such mails is in a table, so a restart goes on. A mailbox whose server
fails is tried again later; one that must sign in is left until something new comes in it, or the next
start. A mail that has its content keeps it.

Mails are read from their servers as a check would, and effects only: no event, no log. A reading takes the
place of a check (`SigningIn`), so it signs in as a check of the mailbox does.
"""

import asyncio
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Final

import msgspec
from imapclient.imap_utf7 import encode as encode_utf7
from msgspec import Meta

from huahuo.actors.plugins.actions import Action, Id
from huahuo.actors.plugins.calls import Call, Refusal, Reply, UserId, error_reply, json_reply
from huahuo.eventstore.ambient import Ambient, json_bytes
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.model import Append, RowDrop
from huahuo.mailcheck import en, records, zh
from huahuo.mailcheck.api.params import OfMail
from huahuo.mailcheck.api.rosters import Answering, Rosters, record_of
from huahuo.mailcheck.checks.backlog import Backlog
from huahuo.mailcheck.checks.check import Errand
from huahuo.mailcheck.checks.check_effect import (
    CheckFailed,
    CheckMailbox,
    Environment,
)
from huahuo.mailcheck.checks.folder_reader import Reader, batches
from huahuo.mailcheck.checks.mailboxes import Mailboxes
from huahuo.mailcheck.events import GRAPH_UIDVALIDITY
from huahuo.mailcheck.mailbox.decider import Content, KeepContents, NoMailbox, Plan
from huahuo.mailcheck.mime.mail import attached, content_document, parse_mail
from huahuo.mailcheck.servers.faults import CommandRefused
from huahuo.mailcheck.servers.graph import Graph
from huahuo.mailcheck.servers.imap_client import ImapClient


class OnServer(msgspec.Struct, frozen=True):
    """Where a mail was found. `remote_id`: its id at Graph, "" over IMAP."""

    folder: str
    uidvalidity: int
    uid: int
    remote_id: str = ""


def on_server(record: records.MailRecord) -> OnServer | None:
    """Where the mail was found last; None if it never was on a server."""
    if record.uidvalidity == GRAPH_UIDVALIDITY and not record.remote_id:
        return None
    return OnServer(record.folder, record.uidvalidity, record.uid, record.remote_id or "")


class OneMail(Errand):
    """One mail, as it is on its server. `source` is None if it is not there any more."""

    def __init__(self, place: OnServer) -> None:
        self.graph = bool(place.remote_id)
        self._place = place
        self.source: bytes | None = None

    async def by_graph(self, graph: Graph, environment: Environment) -> None:
        """See `Errand`."""
        answer = await graph.mail(self._place.remote_id, environment.limits.mail_bytes_max)
        self.source = None if answer is None else answer.body

    async def over_imap(self, client: ImapClient, environment: Environment) -> None:
        """See `Errand`."""
        at, most = self._place, environment.limits.mail_bytes_max
        folder = await client.examine(encode_utf7(at.folder).decode())
        if folder.uidvalidity == at.uidvalidity:
            found = await client.fetch_bodies([at.uid], bytes_expected=most, bytes_max_each=most)
            self.source = found[at.uid].body if at.uid in found else None


GONE = json_bytes({"text": "", "html": "", "attachments": [], "to": "", "cc": "", "truncated": True})
"""The content of a mail that was gone from its server before its text was read."""

type Contents = Mapping[int, tuple[bytes, bool]]
"""By mail id: the content, and whether it has attachments."""


class Missing(msgspec.Struct, frozen=True):
    """A mail whose content is wanted. `place` None: it must be searched for."""

    mail_id: int
    place: OnServer | None


class ManyMails(Errand):
    """The contents of many mails of one mailbox, over one connection.

    `page`: the next mails that are wanted, none at the end. `keep` takes them; false ends the reading.
    """

    def __init__(
        self,
        page: Callable[[], Awaitable[Sequence[Missing]]],
        keep: Callable[[Contents], Awaitable[bool]],
    ) -> None:
        self._page = page
        self._keep = keep

    async def by_graph(self, graph: Graph, environment: Environment) -> None:
        """See `Errand`."""
        most = environment.limits.mail_bytes_max
        while page := await self._page():
            for one in page:
                remote_id = "" if one.place is None else one.place.remote_id
                async with environment.large_mails:
                    answer = await graph.mail(remote_id, most) if remote_id else None
                    content = (
                        (GONE, False)
                        if answer is None
                        else await _content(environment, answer.body, answer.cut)
                    )
                if not await self._keep({one.mail_id: content}):
                    return

    async def over_imap(self, client: ImapClient, environment: Environment) -> None:
        """See `Errand`."""
        while page := await self._page():
            lost = [one for one in page if one.place is None or one.place.remote_id]
            if lost and not await self._keep({one.mail_id: (GONE, False) for one in lost}):
                return
            folders: dict[tuple[str, int], dict[int, int]] = defaultdict(dict)
            for one in page:
                if one.place is not None and not one.place.remote_id:
                    at = one.place
                    folders[at.folder, at.uidvalidity][at.uid] = one.mail_id
            for at_folder, wanted in folders.items():
                if not await self._folder(client, environment, *at_folder, wanted):
                    return

    async def _folder(
        self,
        client: ImapClient,
        environment: Environment,
        folder: str,
        uidvalidity: int,
        wanted: dict[int, int],
    ) -> bool:
        """Mails of one folder, by UID. Those that are not there any more are gone."""
        uids, limits = sorted(wanted), environment.limits
        try:
            opened = await client.examine(encode_utf7(folder).decode())
        except CommandRefused as refused:
            if refused.command != "EXAMINE":
                raise
            uids = []
        else:
            uids = uids if opened.uidvalidity == uidvalidity else []
        reader = Reader(client, uids, limits)
        there = await reader.sizes(uids) if uids else []
        for batch in reversed(list(batches(there, limits))):
            async with environment.large_mails if reader.is_heavy(batch) else nullcontext():
                raws = await reader.read(batch)
                contents = {
                    wanted.pop(raw.uid): await _content(environment, raw.body, raw.truncated) for raw in raws
                }
            if not await self._keep(contents):
                return False
        return await self._keep(dict.fromkeys(wanted.values(), (GONE, False)))


async def _content(environment: Environment, body: bytes, truncated: bool) -> tuple[bytes, bool]:
    return await environment.executor.run(partial(_document, body, truncated))


def _document(body: bytes, truncated: bool) -> tuple[bytes, bool]:
    mail = parse_mail(body)
    return content_document(mail, truncated=truncated), mail.has_attachments


ASKING_AT_ONCE: Final = 2
"""Queries of one action that a user has under way. Each holds one of the user's turns while it waits."""
_ASKING_TIMEOUT_S: Final = 60.0


class Asking:
    """The queries of one action. `busy` and `details`: the refusal of one more than `AT_ONCE`."""

    def __init__(self, ambient: Ambient, busy: str, details: str) -> None:
        self._ambient = ambient
        self._busy = error_reply(Refusal("busy", busy, details.format(ASKING_AT_ONCE)))
        self._running: Counter[str] = Counter()

    def one[P](self, ask: Callable[[Call[P]], Awaitable[Reply]]) -> Callable[[Call[P]], Awaitable[Reply]]:
        """A handler that answers what `ask` does, or a refusal: see `answer`."""
        return lambda call: self.answer(call.principal.name, partial(ask, call))

    async def answer(self, user: str, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        """What `ask` returns, or a refusal: too many are under way, or the mail server fails."""
        if self._running[user] >= ASKING_AT_ONCE:
            return self._busy
        self._running[user] += 1
        try:
            async with Deadline(self._ambient, _ASKING_TIMEOUT_S):
                return await ask()
        except CheckFailed as failed:
            return error_reply(Refusal("unavailable", failed.outcome.said, failed.outcome.advice))
        except TimeoutError:
            return error_reply(Refusal("unavailable", zh.SERVER_TOO_SLOW))
        finally:
            self._running[user] -= 1
            if not self._running[user]:
                del self._running[user]


CONTENT_BYTES_MAX: Final = 11 << 20
"""Of a file: as text it must fit into one reply."""


class AttachmentParams(msgspec.Struct, frozen=True):
    """Fields of `get_attachment`. `index`: its place in the mail's list, from 0."""

    mail_id: Id
    index: Annotated[int, Meta(ge=0, le=1_000)]


async def _from_server(read: CheckMailbox, record: records.MailRecord, plan: Plan | None) -> bytes | None:
    """A mail as its server has it, None if it has it no more."""
    place = on_server(record)
    if plan is None or place is None:
        return None
    wanted = OneMail(place)
    await read(record.email_id, plan, wanted)
    return wanted.source


class Attachments(Answering):
    """See the module."""

    def __init__(self, rosters: Rosters, read: CheckMailbox) -> None:
        super().__init__(rosters)
        self._read = read
        self._asking = Asking(self._ambient, zh.READING_ALREADY, en.READ_AT_ONCE)

    def actions(self) -> list[Action]:
        """The actions."""
        return [
            Action("get_attachment", AttachmentParams, self._asking.one(self._found), query=True),
            Action("get_source", OfMail, self._asking.one(self._whole), query=True),
        ]

    async def _source(self, user_id: UserId, mail_id: int) -> bytes | Refusal:
        record = await self._rosters.mail(user_id, mail_id)
        plan = None if record is None else await self._mailboxes.plan_of(record.email_id)
        if record is None or plan is None:
            return Refusal("not_found", zh.NO_MAIL.format(mail_id))
        # A mail that came from a file may be kept here.
        blob = await self._log.row(records.SOURCES, str(record.email_id), records.mail_key(mail_id))
        kept = None if blob is None else await self._log.blob(blob.decode())
        source = kept or await _from_server(self._read, record, plan)
        return Refusal("not_found", zh.MAIL_GONE) if source is None else source

    async def _whole(self, call: Call[OfMail]) -> Reply:
        mail_id = call.params.mail_id
        source = await self._source(call.principal.user_id, mail_id)
        if isinstance(source, Refusal):
            return error_reply(source)
        if len(source) > CONTENT_BYTES_MAX:
            return error_reply(Refusal("too_large", zh.ATTACHMENT_TOO_LARGE, f"{CONTENT_BYTES_MAX} bytes"))
        encoded = await self._executor.run(lambda: b64encode(source).decode())
        return json_reply({"type": "source", "mail_id": mail_id, "size": len(source), "data": encoded})

    async def _found(self, call: Call[AttachmentParams]) -> Reply:
        params = call.params
        source = await self._source(call.principal.user_id, params.mail_id)
        if isinstance(source, Refusal):
            return error_reply(source)
        file = await self._executor.run(lambda: attached(source, params.index, CONTENT_BYTES_MAX))
        if file is None:
            return error_reply(Refusal("not_found", zh.NO_ATTACHMENT, "index"))
        about, content = file
        if len(content) > CONTENT_BYTES_MAX:
            return error_reply(Refusal("too_large", zh.ATTACHMENT_TOO_LARGE, f"{CONTENT_BYTES_MAX} bytes"))
        encoded = await self._executor.run(lambda: b64encode(content).decode())
        return json_reply(
            {
                "type": "attachment",
                "mail_id": params.mail_id,
                "index": params.index,
                "name": about.name,
                "content_type": about.type,
                "size": len(content),
                "data": encoded,
            }
        )


class Keeping:
    """Storing the contents of mails of which only headers were read. A mail that has its content keeps it.

    Exceptions of the log and the entities pass through.
    """

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes

    async def keep(self, email_id: int, contents: Mapping[int, tuple[bytes, bool]]) -> bool:
        """Store (content, whether there are attachments) by mail id. False: the mailbox was deleted."""
        async with self._mailboxes.storing(email_id):  # a check may move their records meanwhile
            found = [
                Content(*stored, content, has_attachments)
                for mail_id, (content, has_attachments) in contents.items()
                if (stored := await self._missing(mail_id)) is not None
            ]
            if not found:
                return True
            answer = await self._mailboxes.tell(email_id, KeepContents(tuple(found)))
        return not isinstance(answer.reply, NoMailbox)

    async def _missing(self, mail_id: int) -> tuple[records.MailRecord, int] | None:
        """The record of a mail without content, and when it was received."""
        found = await record_of(self._mailboxes.log, mail_id)
        return None if found is None or found[0].blob else (found[0], found[1].received_ms)


OPENING_AT_ONCE: Final = 16
"""Mails that are read from servers at once. Each is a connection, and memory for a mail."""
_OPENING_TIMEOUT_S: Final = 60.0


class Opening(Answering):
    """The content of one mail: from the log, or from its server if only its headers were read so far."""

    def __init__(self, rosters: Rosters, read: CheckMailbox, keeping: Keeping) -> None:
        super().__init__(rosters)
        self._read = read
        self._keeping = keeping
        self._places = asyncio.Semaphore(OPENING_AT_ONCE)

    async def content(self, record: records.MailRecord) -> bytes | None:
        """The content, None if the mail is nowhere any more.

        Raises:
            CheckFailed, TimeoutError: it is only on its server, which did not give it.
        """
        if record.blob:
            return await self._log.blob(record.blob)
        async with self._places, Deadline(self._ambient, _OPENING_TIMEOUT_S):
            plan = await self._mailboxes.plan_of(record.email_id)
            source = await _from_server(self._read, record, plan)
        if source is None:
            return None
        mail = await self._executor.run(partial(parse_mail, source))
        content = await self._executor.run(partial(content_document, mail, truncated=False))
        await self._keeping.keep(record.email_id, {record.mail_id: (content, mail.has_attachments)})
        return content


FILLING_AT_ONCE: Final = 4
"""Mailboxes that are read at once, so that checks have most of the network and of the log."""
_PAGE_MAILS: Final = 50
_AGAIN_S: Final = 600.0


class Filling:
    """Reads the rest of mails that were told by their headers, mailbox by mailbox, newest first."""

    def __init__(self, mailboxes: Mailboxes, read: CheckMailbox, keeping: Keeping) -> None:
        self._mailboxes = mailboxes
        self._log = mailboxes.log
        self._ambient = mailboxes.ambient
        self._read = read
        self._keeping = keeping
        self.backlog = Backlog(
            mailboxes, records.UNREAD_BODIES, self._fill, at_once=FILLING_AT_ONCE, again_s=_AGAIN_S
        )

    async def _fill(self, email_id: int) -> bool:
        plan = await self._mailboxes.plan_of(email_id)
        if plan is None:
            return True
        asked: list[Missing] = []

        async def page() -> Sequence[Missing]:
            nonlocal asked
            found = await self._missing(email_id)
            # What stays missing although it was kept would be read for ever.
            found, asked = ([] if found == asked else found), found
            return found

        async def keep(contents: Contents) -> bool:
            return not contents or await self._keeping.keep(email_id, contents)

        if await self._missing(email_id):
            try:
                await self._read(email_id, plan, ManyMails(page, keep))
            except CheckFailed as failed:
                return not failed.outcome.retry
        await self._done(email_id)
        return True

    async def _missing(self, email_id: int) -> list[Missing]:
        part = str(email_id)
        found: list[Missing] = []
        for key, _ in await self._log.rows(records.MISSING, part, limit=_PAGE_MAILS):
            row = await self._log.row(records.MAILS, part, key)
            if row is not None:
                record = msgspec.json.decode(row, type=records.MailRecord)
                found.append(Missing(record.mail_id, on_server(record)))
        return found

    async def _done(self, email_id: int) -> None:
        """Nothing is missing of this mailbox any more, unless a check has just stored more."""
        async with self._mailboxes.storing(email_id):
            if not await self._log.rows(records.MISSING, str(email_id), limit=1):
                row = RowDrop(records.UNREAD_BODIES, "", records.email_key(email_id))
                await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=(row,), principal="service"))
