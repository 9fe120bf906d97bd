"""One check of one mailbox, from the name of its server to its last new mail. Effects only: no event, no log.

The mailbox actor runs it as a task and may cancel it at any time, which cuts the connection. The sink has
already stored every batch it was given, so the next check continues after the last one.
"""

import asyncio
from contextlib import nullcontext
from functools import partial
from itertools import batched

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.executor import Executor
from huahuo.mailcheck.checks.fetching import SIZES_MAX, RawMail, Reader, batches
from huahuo.mailcheck.checks.ports import CheckFailed, CheckLimits, Ok, Sink, Target
from huahuo.mailcheck.codes.finding import code_of
from huahuo.mailcheck.fetched import INBOX, FetchedMail, UidCursor
from huahuo.mailcheck.imap.client import ImapClient
from huahuo.mailcheck.imap.network import Network
from huahuo.mailcheck.imap.outcome import classify
from huahuo.mailcheck.imap.stream import ImapStream
from huahuo.mailcheck.mime.mail import content_document, parse_mail
from huahuo.mailcheck.servers.faults import CommandRefused, MailFault, TimedOut
from huahuo.mailcheck.servers.providers import Place

_PERCENT_CONNECTING = 0
_PERCENT_LOGIN = 10
_PERCENT_FOLDER = 20
_PERCENT_LAST = 99
_PERCENT_LEAP = 10


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
    """Fetch every mail of INBOX that `since` does not cover and hand it to `sink`.

    `large_mails`, shared by all checks, is held while a mail larger than a batch is in memory.

    Raises:
        CheckFailed: with the classified outcome. Exceptions of `sink` pass through unchanged.
    """
    run = _Check(since, sink, limits, large_mails, executor, ambient)
    try:
        return await run.run(target, network)
    except MailFault as fault:
        raise CheckFailed(classify(fault)) from fault


class _Check:
    """One check under way."""

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
        self._progress = Progress(sink, ambient, limits.progress_per_s_max)

    async def run(self, target: Target, network: Network) -> Ok:
        """Connect, read, log out. After a cancel or a broken connection, skip the logout."""
        limits = self._limits
        await self._progress.step(_PERCENT_CONNECTING, "正在连接邮箱服务器")
        place, stream = await self._connect(target, network)
        client = ImapClient(
            stream,
            self._ambient,
            command_timeout_s=limits.command_timeout_s,
            fetch_timeout_s=limits.fetch_timeout_s,
        )
        listens = False
        try:
            done = await self._session(client, target, place)
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

    async def _connect(self, target: Target, network: Network) -> tuple[Place, ImapStream]:
        """The first place that can be reached. If none can, the fault of the first."""
        first: MailFault | None = None
        for place in target.places:
            try:
                return place, await network.open_stream(
                    place.host,
                    place.port,
                    use_ssl=place.tls == "implicit",
                    timeout_s=self._limits.connect_timeout_s,
                    listed=place.listed,
                    proxy=target.proxy,
                )
            except MailFault as fault:
                first = first or fault
        assert first is not None, "a target has a place"
        raise first

    async def _session(self, client: ImapClient, target: Target, place: Place) -> Ok:
        """Log in and read. The idle deadline restarts with every batch."""
        deadline = Deadline(self._ambient, self._limits.idle_timeout_s)
        try:
            async with deadline:
                await client.greet()
                await client.secure(place.tls)
                await self._progress.step(_PERCENT_LOGIN, "正在登录邮箱")
                await client.sign_in(
                    target.auth, target.user, target.secret, host=place.host, port=place.port
                )
                await client.identify()
                await self._progress.step(_PERCENT_FOLDER, f"正在选择文件夹 {INBOX}")
                return await self._read_new(client, deadline)
        except TimeoutError:
            if deadline.expired():
                raise TimedOut("no mail for too long") from None
            raise

    async def _read_new(self, client: ImapClient, deadline: Deadline) -> Ok:
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
            await self._progress.mail(self._count, self._total)
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
