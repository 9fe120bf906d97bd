"""Reading what is new in a folder over a connection that is signed in. Called by checks and by watchers."""

import asyncio
from contextlib import nullcontext
from functools import partial
from itertools import batched

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.executor import Executor
from huahuo.mailcheck.checks.fetching import SIZES_MAX, RawMail, Reader, batches
from huahuo.mailcheck.checks.ports import CheckLimits, Ok, Sink
from huahuo.mailcheck.codes.finding import code_of
from huahuo.mailcheck.fetched import INBOX, FetchedMail, UidCursor
from huahuo.mailcheck.imap.client import ImapClient
from huahuo.mailcheck.mime.mail import content_document, parse_mail

_PERCENT_FOLDER = 20
_PERCENT_LAST = 99
_PERCENT_LEAP = 10


class Reading:
    """One reading of one mailbox. `since`: what earlier ones have told."""

    def __init__(
        self,
        since: UidCursor | None,
        sink: Sink,
        limits: CheckLimits,
        large_mails: asyncio.Semaphore,
        executor: Executor,
        ambient: Ambient,
    ) -> None:
        self._since = since
        self._sink = sink
        self._limits = limits
        self._large_mails = large_mails
        self._executor = executor
        self._ambient = ambient
        self._total = 0
        self._count = 0
        self.progress = Progress(sink, ambient, limits.progress_per_s_max)

    async def read(self, client: ImapClient, deadline: Deadline) -> Ok:
        """Hand every new mail to the sink. `deadline` restarts with every batch."""
        await self.progress.step(_PERCENT_FOLDER, f"正在选择文件夹 {INBOX}")
        folder = await client.examine(INBOX)
        since = self._since
        resynced = since is not None and since.uidvalidity != folder.uidvalidity
        after = since.uid if since is not None and not resynced else 0
        cursor = UidCursor(INBOX, folder.uidvalidity, after)
        uids = await client.search_after(after, folder.exists)
        reader = Reader(client, uids, self._limits)
        self._total = len(uids)
        new_count = 0
        for some in batched(uids, SIZES_MAX):
            for batch in batches(await reader.sizes(some), self._limits):
                cursor = UidCursor(INBOX, folder.uidvalidity, batch[-1].uid)
                # The deadline judges the server, so it stops while we wait for a place or for the sink.
                deadline.restart(None)
                async with self._large_mails if reader.is_heavy(batch) else nullcontext():
                    deadline.restart(self._limits.idle_timeout_s)
                    mails = await self._parsed(await reader.read(batch), folder.uidvalidity)
                    deadline.restart(None)
                    if mails:
                        await self._sink.mails(mails, cursor)
                deadline.restart(self._limits.idle_timeout_s)
                new_count += len(mails)
                self._count += len(batch) - len(mails)
        if uids:
            cursor = UidCursor(INBOX, folder.uidvalidity, uids[-1])
        return Ok(new_count, cursor, resynced)

    async def _parsed(self, raws: list[RawMail], uidvalidity: int) -> list[FetchedMail]:
        """The mails of a batch. Each is parsed in a job of its own and reported as progress."""
        mails: list[FetchedMail] = []
        for raw in raws:
            self._count += 1
            await self.progress.mail(self._count, self._total)
            now_ms = self._ambient.now_ms()
            job = partial(fetched_mail, raw, uidvalidity, now_ms, codes=self._limits.codes)
            mails.append(await self._executor.run(job))
        return mails


def fetched_mail(
    raw: RawMail, uidvalidity: int, now_ms: int, *, codes: bool, remote_id: str = ""
) -> FetchedMail:
    """A mail as the domain keeps it, whatever bytes came. `codes`: look for a verification code."""
    mail = parse_mail(raw.body)
    code = code_of(mail.subject, mail.text, mail.html) if codes else None
    return FetchedMail(
        folder=INBOX,
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
        content=content_document(mail, truncated=raw.truncated),
        code=code.text if code else "",
        code_confidence=code.confidence if code else 0.0,
        remote_id=remote_id,
    )


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
            await self.step(percent, f"正在处理第 {number}/{total} 封邮件")
