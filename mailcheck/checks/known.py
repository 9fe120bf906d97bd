"""Storing what a reading found: which mails are known already is looked up, and the mailbox decides.

Mails that were taken over from another service are found by what it keeps: subject, sender and date.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from email.utils import parseaddr
from typing import Final

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.port import Log
from huahuo.mailcheck.fetched import IMPORTED, FetchedMail
from huahuo.mailcheck.mailbox.commands import Plan
from huahuo.mailcheck.mailbox.identity import Equals, Known, decoded, digest_of, place_of
from huahuo.mailcheck.tables.records import (
    GRAPH,
    KNOWN,
    MAILS,
    SUBJECT_CHARS_MAX,
    MailRecord,
    clean,
    received_of,
    record_key,
    remote_key,
    sent_ms,
)

_SEVERAL: Final = 3
"""From this number of mails on, one question comes first: whether any mail of the mailbox is known."""
_AROUND_MAX: Final = 2_000
"""Records of a day at which one mail looks."""
_ZONES_MS: Final = 14 * 3_600_000
_ZONE_STEP_MS: Final = 900_000
_SECOND_MS: Final = 1_000


class KnownMails:
    """The mails of all mailboxes, as far as a reading must know them."""

    def __init__(self, log: Log, ambient: Ambient) -> None:
        self._log = log
        self._ambient = ambient
        self._turns: dict[int, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def storing(self, email_id: int) -> AsyncIterator[None]:
        """What is looked up in the block holds until what follows from it is stored.

        A check and the watcher of a mailbox may read at the same time; they store in turns.
        """
        lock, users = self._turns.get(email_id, (asyncio.Lock(), 0))
        self._turns[email_id] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            users = self._turns[email_id][1] - 1
            if users:
                self._turns[email_id] = lock, users
            else:
                del self._turns[email_id]

    async def unknown(self, email_id: int, batch: Sequence[FetchedMail]) -> tuple[FetchedMail, ...]:
        """The mails without those of Graph that are known by their ids there."""
        return tuple(
            [
                mail
                for mail in batch
                if not mail.remote_id
                or await self._log.row(GRAPH, str(email_id), remote_key(mail.remote_id)) is None
            ]
        )

    async def equal_to(
        self, email_id: int, plan: Plan, batch: Sequence[FetchedMail]
    ) -> Mapping[bytes, Equals]:
        """For each mail the known ones that equal it, by the digest of both."""
        found: dict[bytes, Equals] = {}
        taken: set[int] = set()
        looks = len(batch) < _SEVERAL or bool(await self._log.rows(KNOWN, str(email_id), limit=1))
        for mail in batch:
            digest = digest_of(mail)
            if digest not in found:
                row = await self._log.row(KNOWN, str(email_id), digest) if looks else None
                found[digest] = await self._equals(email_id, plan, mail, row)
            if IMPORTED in plan.cursors and mail.folder != IMPORTED and not found[digest].mails:
                found[digest] = await self._imported(email_id, plan, mail, taken)
        return found

    async def _imported(self, email_id: int, plan: Plan, mail: FetchedMail, taken: set[int]) -> Equals:
        """The mail as it was taken over, each for one mail only; `taken` are those of others.

        The other service kept some dates in the zone of the sender, and did not say which.
        """
        moment_ms = sent_ms(mail, self._ambient.now_ms())
        before = record_key(moment_ms + _ZONES_MS + 1, 0)
        rows = await self._log.rows(MAILS, str(email_id), before=before, limit=_AROUND_MAX)
        best: tuple[int, MailRecord] | None = None
        for key, value in rows:
            apart_ms = abs(received_of(key) - moment_ms)
            if received_of(key) < moment_ms - _ZONES_MS:
                break
            record = msgspec.json.decode(value, type=MailRecord)
            if record.folder != IMPORTED or record.mail_id in taken or apart_ms % _ZONE_STEP_MS > _SECOND_MS:
                continue
            if _looks(record.subject, record.sender) == _looks(mail.subject, mail.sender) and (
                best is None or apart_ms < best[0]
            ):
                best = apart_ms, record
        if best is None:
            return Equals()
        record = best[1]
        taken.add(record.mail_id)
        place = place_of(plan.server, IMPORTED, plan.cursors[IMPORTED].uidvalidity)
        at_ms = round(datetime.fromisoformat(record.received_time).timestamp() * 1000)
        return Equals((Known(record.mail_id, at_ms, (place,)),), (record,))

    async def _equals(self, email_id: int, plan: Plan, mail: FetchedMail, row: bytes | None) -> Equals:
        place = place_of(plan.server, mail.folder, mail.uidvalidity)
        mails = () if row is None else decoded(row)
        records: list[MailRecord] = []
        for known in mails:
            if place not in known.places:
                key = record_key(known.received_ms, known.mail_id)
                value = await self._log.row(MAILS, str(email_id), key)
                if value is not None:
                    records.append(msgspec.json.decode(value, type=MailRecord))
        return Equals(mails, tuple(records))


def _looks(subject: str, sender: str) -> tuple[str, str]:
    """What a reader sees, however it was cut and spaced."""
    address = parseaddr(sender)[1] or sender
    shown = clean(subject, SUBJECT_CHARS_MAX)
    return " ".join(shown.split()).casefold(), address.strip().casefold()
