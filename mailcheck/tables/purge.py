"""Removes the data of deleted mailboxes: records, the index of mail ids, contents. An effect of the deletion.

The commit of a deletion also adds a row to `purges`, which is dropped with the last page. A run that was cut
short is repeated and removes what is left, so nothing is claimed and no failure is recorded. For the user,
the mailbox is gone with the deletion itself.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import msgspec

from huahuo.actors.effects.books import Hold
from huahuo.actors.effects.facts import DONE, FAILED, OpenEffect
from huahuo.actors.effects.line import Entry
from huahuo.actors.effects.run import EffectRun
from huahuo.actors.effects.spec import Failure, Spec
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import Append, RowDrop
from huahuo.eventstore.port import Log
from huahuo.mailcheck.streams import mailbox_stream, user_stream
from huahuo.mailcheck.tables.records import (
    GRAPH,
    KNOWN,
    MAIL,
    MAILS,
    MISSING,
    PURGES,
    SOURCES,
    UNREAD,
    UNREAD_BODIES,
    MailPlace,
    MailRecord,
    email_key,
    mail_key,
    number_of,
)

PURGE: Final = "purge"
_PAGE_ROWS: Final = 200
_RETRIES: Final = 1 << 31
"""It is tried until it succeeds, every half minute."""

type Removal = RowDrop
"""A row, or the id of a blob."""


type Forgetting = Callable[[Sequence[MailRecord]], AbstractAsyncContextManager[None]]
"""Removes what else is known of these mails. The block then removes them here."""


@asynccontextmanager
async def _nothing_else(_records: Sequence[MailRecord]) -> AsyncIterator[None]:
    yield


class Purging:
    """The effect, and its books: see `Books`."""

    table: Final = PURGES

    def __init__(self, log: Log, ambient: Ambient, kind: str, forgetting: Forgetting = _nothing_else) -> None:
        """`kind`: that of mailboxes."""
        self._forgetting = forgetting
        self._log = log
        self._ambient = ambient
        self._kind = kind

    def spec(self) -> Spec:
        """How it is run."""
        return Spec(
            kind=self._kind,
            name=PURGE,
            handler=self._perform,
            read=bytes,
            key=int,
            retries=_RETRIES,
            backoff_s=30.0,
        )

    def effect_of(self, email_id: int) -> OpenEffect:
        """The purge of a mailbox as the runner knows it."""
        return OpenEffect(self._kind, str(email_id), PURGE, msgspec.Raw(b"{}"), self._ambient.now_ms())

    def read(self, key: bytes, value: bytes) -> tuple[int, OpenEffect]:
        """See `Books`."""
        del value
        return number_of(key), self.effect_of(number_of(key))

    def row_key(self, entry: Entry) -> bytes:
        """See `Books`."""
        return email_key(entry.id)

    @asynccontextmanager
    async def hold(self, entry: Entry) -> AsyncIterator[Hold]:
        """See `Books`."""
        yield _Hold(self, entry.id)

    async def cancelled(self, entry: Entry) -> str | None:
        """See `Books`. Nothing cancels a purge."""
        del entry
        return None

    async def remove(self, email_id: int, what: Sequence[Removal], *, last: bool) -> None:
        """Remove this in one commit."""
        mail = next((one for one in what if one.table in (MAIL, SOURCES)), None)  # the same key
        owner = ""
        if mail is not None and mail.key is not None and (row := await self._log.row(MAIL, "", mail.key)):
            owner = user_stream(msgspec.json.decode(row, type=MailPlace).user_id)
        append = Append(
            ts_ms=self._ambient.now_ms(),
            rows=tuple(what),
            # Ids are never reused: nothing more will be written to its stream.
            ended=(mailbox_stream(email_id),) if last else (),
            principal="service",
            owner=owner,
        )
        await self._log.append(append)

    async def _perform(self, _job: bytes, run: EffectRun) -> None:
        part = str(run.id)
        while rows := await self._log.rows(SOURCES, part, limit=_PAGE_ROWS):
            await run.emit(*(RowDrop(SOURCES, part, key, (blob.decode(),)) for key, blob in rows))
        while records := await self._log.rows(MAILS, part, limit=_PAGE_ROWS):
            found = [(key, msgspec.json.decode(value, type=MailRecord)) for key, value in records]
            async with self._forgetting([record for _, record in found]):
                await run.emit(*(one for key, record in found for one in _of_mail(part, key, record)))
        for table in (GRAPH, KNOWN, MISSING, UNREAD):
            while rows := await self._log.rows(table, part, limit=_PAGE_ROWS):
                await run.emit(*(RowDrop(table, part, key) for key, _ in rows))
        key = email_key(run.id)
        await run.finish(RowDrop(UNREAD_BODIES, "", key), RowDrop(PURGES, "", key))


def _of_mail(part: str, key: bytes, record: MailRecord) -> tuple[Removal, ...]:
    # The row holds the reference: a page that is purged twice releases it once.
    blobs = (record.blob,) if record.blob else ()
    return RowDrop(MAILS, part, key, blobs), RowDrop(MAIL, "", mail_key(record.mail_id))


class _Hold:
    """See `Hold`. What is said is what to remove."""

    attempt: Final = 1
    position: Final = 0

    def __init__(self, purging: Purging, email_id: int) -> None:
        self.over = ""
        self._purging = purging
        self._email_id = email_id

    async def state(self) -> None:
        """See `Hold`."""

    async def say(self, events: Sequence[Removal], *, ends: bool) -> None:
        """See `Hold`."""
        await self._purging.remove(self._email_id, events, last=ends)

    async def again(self, error_type: str, due_ms: int, row: OpenEffect) -> None:
        """See `Hold`. The row in `purges` is still there."""

    async def give_up(self, failure: Failure) -> str:
        """See `Hold`. It would be two thousand years until then."""
        del failure
        return FAILED

    async def end(self) -> str:
        """See `Hold`. A purge ends by `finish`."""
        return DONE
