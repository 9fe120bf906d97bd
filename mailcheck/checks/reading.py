"""Reading what is new in a folder over a connection that is signed in. Called by checks and by watchers."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import batched

import structlog
from msgspec.structs import replace

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.executor import Executor
from huahuo.mailcheck.checks.fetching import SIZES_MAX, RawMail, Reader, jobs, runs
from huahuo.mailcheck.checks.ports import CheckLimits, Ok, Sink
from huahuo.mailcheck.codes.finding import Code, code_of
from huahuo.mailcheck.fetched import INBOX, FetchedMail, UidCursor
from huahuo.mailcheck.imap.client import ImapClient
from huahuo.mailcheck.imap.folders import Folder, chosen
from huahuo.mailcheck.imap.wire import Fetched, uid_set
from huahuo.mailcheck.imap.wire import Folder as Opened
from huahuo.mailcheck.mime.mail import content_document, parse_headers, parse_mail
from huahuo.mailcheck.servers.faults import CommandRefused, ImapError
from huahuo.mailcheck.words import zh

_log = structlog.get_logger(__name__)

_HISTORY_MAILS = 200
"""A longer history is read from its end, so that the newest mails are told first."""
_PERCENT_FOLDER = 20
_PERCENT_LAST = 99
_PERCENT_LEAP = 10


class Reading:
    """One reading of one mailbox. `cursors`: what earlier ones have told, by folder."""

    def __init__(
        self,
        cursors: Mapping[str, UidCursor],
        sink: Sink,
        limits: CheckLimits,
        large_mails: asyncio.Semaphore,
        executor: Executor,
        ambient: Ambient,
        newest: int | None = None,
        folders: tuple[str, ...] | None = None,
    ) -> None:
        """`folders`: besides INBOX; None: those of the limits.

        `newest`: at most this many mails of a folder that was never read, and none that earlier checks left.
        """
        self._cursors = cursors
        self._newest = newest
        self._folders = limits.folders if folders is None else folders
        self._sink = sink
        self._limits = limits
        self._large_mails = large_mails
        self._executor = executor
        self._ambient = ambient
        self._total = 0
        self._count = 0
        self._new_count = 0
        self.progress = Progress(sink, ambient, limits.progress_per_s_max)

    async def inbox(self, client: ImapClient, deadline: Deadline) -> Ok:
        """Hand every new mail of INBOX to the sink. `deadline` restarts with every batch."""
        await self.progress.step(_PERCENT_FOLDER, zh.OPENING_FOLDER.format(INBOX))
        return await self._folder(client, deadline, Folder(INBOX, INBOX, frozenset()))

    async def others(self, client: ImapClient, deadline: Deadline) -> None:
        """The same for the other folders that are wanted, as far as the mailbox has them."""
        if not self._folders:
            return
        try:
            listed = await client.folders()
        except ImapError:
            if client.lost:
                return  # some servers hang up on what they do not know, and INBOX was read
            raise
        for folder in chosen(listed, self._folders):
            try:
                done = await self._folder(client, deadline, folder)
            except CommandRefused as refused:
                if refused.command != "EXAMINE":
                    raise
                continue
            deadline.restart(None)
            await self._sink.mails([], done.cursor)
            deadline.restart(self._limits.idle_timeout_s)

    async def _folder(self, client: ImapClient, deadline: Deadline, folder: Folder) -> Ok:
        opened = await client.examine(folder.wire)
        since = self._cursors.get(folder.name)
        resynced = since is not None and since.uidvalidity != opened.uidvalidity
        if since is None or resynced:
            since = UidCursor(folder.name, opened.uidvalidity, 0)
            uids = await client.search_after(0, opened.exists)
            if len(uids) <= min(_HISTORY_MAILS, self._newest or _HISTORY_MAILS):
                done = await self._up(client, deadline, since, uids)
            else:
                done = await self._down(client, deadline, replace(since, uid=uids[-1], rest=uids[-1]), uids)
        else:
            # Only this value says that nothing came. A lower one is wrong, so its server is not believed.
            quiet = opened.uidnext == since.uid + 1
            uids = [] if quiet else await client.search_after(since.uid, opened.exists)
            done = await self._up(client, deadline, since, uids)
            if done.rest and self._newest is None:
                done = await self._down(client, deadline, done, await client.search_up_to(done.rest))
        if self._limits.unread:
            await self._unread(client, deadline, folder.name, opened)
        new_count, self._new_count = self._new_count, 0
        return Ok(new_count, done, resynced)

    async def _unread(self, client: ImapClient, deadline: Deadline, name: str, opened: Opened) -> None:
        try:
            uids = await client.search_unseen(opened.exists)
        except CommandRefused:
            return  # a server that cannot say loses nothing else
        deadline.restart(None)
        await self._sink.unread(name, opened.uidvalidity, uid_set(uids).decode())
        deadline.restart(self._limits.idle_timeout_s)

    async def _up(
        self, client: ImapClient, deadline: Deadline, cursor: UidCursor, uids: Sequence[int]
    ) -> UidCursor:
        """Read mails after the cursor, the oldest first."""
        self._total += len(uids)
        reader = Reader(client, uids, self._limits)
        for some in batched(uids, SIZES_MAX):
            for batch, light in self._runs(await reader.sizes(some)):
                cursor = replace(cursor, uid=batch[-1].uid)
                await self._batch(reader, deadline, batch, cursor, light=light)
        return replace(cursor, uid=uids[-1]) if uids else cursor

    async def _down(
        self, client: ImapClient, deadline: Deadline, cursor: UidCursor, uids: Sequence[int]
    ) -> UidCursor:
        """Read mails up to where the cursor begins, the newest first, and remember how far that came."""
        uids = uids if self._newest is None else uids[-self._newest :]
        whole = self._newest is None
        self._total += len(uids)
        reader = Reader(client, uids, self._limits)
        for end in range(len(uids), 0, -SIZES_MAX):
            some = uids[max(0, end - SIZES_MAX) : end]
            for batch, light in reversed(list(self._runs(await reader.sizes(some)))):
                cursor = replace(cursor, rest=batch[0].uid - 1)
                await self._batch(reader, deadline, batch, cursor, light=light)
            cursor = replace(cursor, rest=some[0] - 1)
        return replace(cursor, rest=0) if whole else cursor

    def _runs(self, mails: Sequence[Fetched]) -> Iterator[tuple[list[Fetched], bool]]:
        return runs(mails, self._limits, self._ambient.now_ms())

    async def _batch(
        self,
        reader: Reader,
        deadline: Deadline,
        batch: Sequence[Fetched],
        cursor: UidCursor,
        *,
        light: bool,
    ) -> None:
        """`light`: headers only."""
        # The deadline judges the server, so it stops while we wait for a place or for the sink.
        deadline.restart(None)
        async with self._large_mails if not light and reader.is_heavy(batch) else nullcontext():
            deadline.restart(self._limits.idle_timeout_s)
            raws = await (reader.headers(batch) if light else reader.read(batch))
            mails = await self._parsed(raws, cursor)
            deadline.restart(None)
            if mails:
                await self._sink.mails(mails, cursor)
        deadline.restart(self._limits.idle_timeout_s)
        self._new_count += len(mails)
        self._count += len(batch) - len(mails)

    async def _parsed(self, raws: list[RawMail], cursor: UidCursor) -> list[FetchedMail]:
        """The mails of a batch. Small ones are parsed in one job, and the last is reported as progress."""
        mails: list[FetchedMail] = []
        for some in jobs(raws):
            self._count += len(some)
            await self.progress.mail(self._count, self._total)
            job = partial(
                _fetched_mails,
                some,
                cursor.uidvalidity,
                self._ambient.now_ms(),
                codes=self._limits.codes,
                folder=cursor.folder,
            )
            mails += await self._executor.run(job)
        return mails


def _fetched_mails(
    raws: Sequence[RawMail], uidvalidity: int, now_ms: int, *, codes: bool, folder: str
) -> list[FetchedMail]:
    return [fetched_mail(raw, uidvalidity, now_ms, codes=codes, folder=folder) for raw in raws]


def fetched_mail(
    raw: RawMail, uidvalidity: int, now_ms: int, *, codes: bool, remote_id: str = "", folder: str = INBOX
) -> FetchedMail:
    """A mail as the domain keeps it, whatever bytes came. `codes`: look for a verification code."""
    mail = parse_headers(raw.body) if raw.headers else parse_mail(raw.body)
    code = _code_of(mail.subject, mail.text, mail.html, raw.uid) if codes and not raw.headers else None
    return FetchedMail(
        folder=folder,
        uidvalidity=uidvalidity,
        uid=raw.uid,
        subject=mail.subject,
        sender=mail.sender,
        message_id=mail.message_id,
        date_ms=next((ms for ms in (mail.date_ms, raw.internal_date_ms) if ms is not None), now_ms),
        internal_date_ms=raw.internal_date_ms,
        has_attachments=mail.has_attachments,
        size=raw.size,
        truncated=raw.truncated,
        content=b"" if raw.headers else content_document(mail, truncated=raw.truncated),
        code=code.text if code else "",
        code_confidence=code.confidence if code else 0.0,
        remote_id=remote_id,
        recipients=f"{mail.to} {mail.cc}",
    )


def _code_of(subject: str, text: str, markup: str, uid: int) -> Code | None:
    """The code of a mail. One that cannot be searched has none: it must not end the check of its mailbox."""
    try:
        return code_of(subject, text, markup)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  the text is anybody's, and a fault of the search is found in the log
        _log.exception("mail_code_search_failed", uid=uid)
        return None


class Progress:
    """Percentages that only rise. Their rate is bounded, except for jumps of a tenth of the whole."""

    def __init__(self, sink: Sink, ambient: Ambient, per_s_max: float) -> None:
        self._sink = sink
        self._ambient = ambient
        self._pause_s = 1 / per_s_max
        self._percent = -1
        self._not_before_s = 0.0

    async def step(self, percent: int, message: str) -> None:
        """Report `percent` if it is higher than the last."""
        if percent > self._percent:
            self._percent = percent
            self._not_before_s = self._ambient.monotonic_s() + self._pause_s
            await self._sink.progress(percent, message)

    async def mail(self, number: int, total: int) -> None:
        """Report that mail `number` of `total` is being read, unless the last report is too recent."""
        percent = _PERCENT_FOLDER + (_PERCENT_LAST - _PERCENT_FOLDER) * number // max(total, number)
        leap = percent >= self._percent + _PERCENT_LEAP
        if leap or self._ambient.monotonic_s() >= self._not_before_s:
            await self.step(percent, zh.READING_MAIL.format(number, total))
