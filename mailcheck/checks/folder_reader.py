"""Reading many mails with bounded memory and without losing one. Called by `check`.

Sizes are fetched first, so that each batch of bodies has a known size. A mail that the server left out of a
batch is fetched again, alone. A mail is skipped only if the server says that it is gone.

Reading what is new in a folder over a connection that is signed in. Called by checks and by watchers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import batched, groupby

import msgspec
import structlog
from msgspec.structs import replace

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.mailcheck import zh
from huahuo.mailcheck.checks.check_effect import CheckLimits, Environment, Ok, Sink
from huahuo.mailcheck.codes.finding import Code, code_of
from huahuo.mailcheck.events import INBOX, FetchedMail, UidCursor
from huahuo.mailcheck.mime.mail import content_document, parse_headers, parse_mail
from huahuo.mailcheck.servers.faults import BrokenProtocol, CommandRefused, ImapError
from huahuo.mailcheck.servers.imap_client import ImapClient
from huahuo.mailcheck.servers.imap_grammar import ExaminedFolder as Opened
from huahuo.mailcheck.servers.imap_grammar import Fetched, Folder, chosen, uid_set

HEADERS_AT_ONCE = 100
SIZES_MAX = 200
"""Mails whose sizes one command asks for."""
_PROBE_BYTES = 1024
JOB_BYTES_MAX, JOB_MAILS_MAX = 64 * 1024, 20
"""What is parsed in one job, if it is more than one mail: some 10 ms, in which other checks wait."""


class RawMail(msgspec.Struct, frozen=True):
    """A mail as the server sent it. `truncated`: `body` is only its beginning, or empty.

    `headers`: `body` is only its headers, and the rest is read later.
    """

    uid: int
    size: int
    internal_date_ms: int | None
    body: bytes
    truncated: bool
    headers: bool = False


def jobs(raws: Iterable[RawMail]) -> Iterator[list[RawMail]]:
    """`raws` in order, in runs that are parsed by one job, because a job costs time of its own."""
    some: list[RawMail] = []
    room = JOB_BYTES_MAX
    for raw in raws:
        if some and (len(raw.body) > room or len(some) >= JOB_MAILS_MAX):
            yield some
            some, room = [], JOB_BYTES_MAX
        some.append(raw)
        room -= len(raw.body)
    if some:
        yield some


def runs(mails: Iterable[Fetched], limits: CheckLimits, now_ms: int) -> Iterator[tuple[list[Fetched], bool]]:
    """`mails` in order, in batches; True: only the headers of these are read now."""
    for light, some in groupby(mails, lambda mail: limits.headers_first(mail.internal_date_ms, now_ms)):
        if light:
            yield from ((list(batch), True) for batch in batched(some, HEADERS_AT_ONCE))
        else:
            yield from ((batch, False) for batch in batches(some, limits))


def batches(mails: Iterable[Fetched], limits: CheckLimits) -> Iterator[list[Fetched]]:
    """`mails` in order, in batches that keep their bounds.

    A mail too large to be read whole, or of unknown size, fills a batch by itself.
    """
    batch: list[Fetched] = []
    room = limits.batch_bytes_max
    for mail in mails:
        whole = mail.size is not None and mail.size <= limits.mail_bytes_max
        weight = max(1, mail.size) if mail.size is not None and whole else limits.batch_bytes_max
        if batch and (weight > room or len(batch) >= limits.batch_mails_max):
            yield batch
            batch, room = [], limits.batch_bytes_max
        batch.append(mail)
        room -= weight
    if batch:
        yield batch


class Reader:
    """Reads the mails `uids` (ascending) of the folder that `client` has open."""

    def __init__(self, client: ImapClient, uids: Sequence[int], limits: CheckLimits) -> None:
        self._client = client
        self._uids = uids
        self._limits = limits
        self._delivers = False

    async def sizes(self, uids: Sequence[int]) -> list[Fetched]:
        """Sizes and dates of at most `SIZES_MAX` mails, without those that are gone."""
        told = await self._client.fetch_sizes(uids)
        missing = [uid for uid in uids if uid not in told]
        if missing:
            told |= {uid: Fetched(uid) for uid in await self._client.still_there(missing)}
        return [told[uid] for uid in sorted(told)]

    def is_heavy(self, batch: Sequence[Fetched]) -> bool:
        """Whether reading `batch` may take more than `batch_bytes_max`."""
        return any(mail.size is None or mail.size > self._limits.batch_bytes_max for mail in batch)

    async def read(self, batch: Sequence[Fetched]) -> list[RawMail]:
        """The mails of one batch, in its order, without those that are gone."""
        if len(batch) == 1:
            only = await self._read_one(batch[0])
            return [only] if only is not None else []
        found = await self._client.fetch_bodies(
            [mail.uid for mail in batch], bytes_expected=sum(mail.size or 0 for mail in batch)
        )
        mails: list[RawMail] = []
        for mail in batch:
            body = found[mail.uid].body if mail.uid in found else None
            raw = self._raw(mail, body) if body is not None else await self._read_one(mail)
            if raw is not None:
                mails.append(raw)
        return mails

    async def headers(self, batch: Sequence[Fetched]) -> list[RawMail]:
        """The headers of these mails, in their order, without those that are gone."""
        most = self._limits.head_bytes_max
        found = await self._client.fetch_headers([mail.uid for mail in batch], bytes_max_each=most)
        mails: list[RawMail] = []
        for mail in batch:
            body = found[mail.uid].body if mail.uid in found else None
            if body is None:
                raw = await self._read_one(mail)
                if raw is not None:
                    mails.append(raw)
            else:
                self._delivers = True
                mails.append(
                    RawMail(
                        mail.uid, mail.size or 0, mail.internal_date_ms, body, truncated=False, headers=True
                    )
                )
        return mails

    async def _read_one(self, mail: Fetched) -> RawMail | None:
        """One mail, fetched alone. None if the server says that it is gone.

        Raises:
            BrokenProtocol: the mail exists, but the server delivers neither this one nor any other.
        """
        size, limits = mail.size, self._limits
        if size is not None and size <= limits.mail_bytes_max:
            found = await self._client.fetch_bodies([mail.uid], bytes_expected=size)
        else:
            head = limits.mail_bytes_max if size is None else limits.head_bytes_max
            found = await self._client.fetch_bodies([mail.uid], bytes_expected=head, bytes_max_each=head)
        body = found[mail.uid].body if mail.uid in found else None
        if body is not None:
            return self._raw(mail, body)
        if not await self._client.still_there([mail.uid]):
            return None
        if not await self._delivers_others(mail.uid):
            raise BrokenProtocol("the server does not deliver its mails")
        # A mail that the server itself cannot read must not block all mails after it.
        return RawMail(mail.uid, size or 0, mail.internal_date_ms, b"", truncated=True)

    def _raw(self, mail: Fetched, body: bytes) -> RawMail:
        self._delivers = True
        size = len(body) if mail.size is None else mail.size
        truncated = size > self._limits.mail_bytes_max or (
            mail.size is None and len(body) >= self._limits.mail_bytes_max
        )
        return RawMail(mail.uid, size, mail.internal_date_ms, body, truncated)

    async def _delivers_others(self, uid: int) -> bool:
        later = next((each for each in self._uids if each > uid), None)
        if not self._delivers and later is not None:
            found = await self._client.fetch_bodies(
                [later], bytes_expected=_PROBE_BYTES, bytes_max_each=_PROBE_BYTES
            )
            self._delivers = any(mail.body is not None for mail in found.values())
        return self._delivers


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
        environment: Environment,
        newest: int | None = None,
        folders: tuple[str, ...] | None = None,
    ) -> None:
        """`folders`: besides INBOX; None: those of the limits.

        `newest`: at most this many mails of a folder that was never read, and none that earlier checks left.
        """
        self._cursors = cursors
        self._newest = newest
        self._limits = limits = environment.limits
        self._folders = limits.folders if folders is None else folders
        self._sink = sink
        self._environment = environment
        self._total = 0
        self._count = 0
        self._new_count = 0
        self.progress = Progress(sink, environment.ambient, limits.progress_per_s_max)

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
        return runs(mails, self._limits, self._environment.ambient.now_ms())

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
        async with self._environment.large_mails if not light and reader.is_heavy(batch) else nullcontext():
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
                self._environment.ambient.now_ms(),
                codes=self._limits.codes,
                folder=cursor.folder,
            )
            mails += await self._environment.executor.run(job)
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
