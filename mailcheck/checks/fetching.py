"""Reading many mails with bounded memory and without losing one. Called by `check`.

Sizes are fetched first, so that each batch of bodies has a known size. A mail that the server left out of a
batch is fetched again, alone. A mail is skipped only if the server says that it is gone.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import batched, groupby

import msgspec

from huahuo.mailcheck.checks.ports import CheckLimits
from huahuo.mailcheck.imap.client import ImapClient
from huahuo.mailcheck.imap.wire import Fetched
from huahuo.mailcheck.servers.faults import BrokenProtocol

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
