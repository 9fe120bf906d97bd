"""Removes the data of deleted mailboxes: records, the index of mail ids, contents.

The commit of a deletion also adds a row to `purges`, which is dropped after the last page. So a purge that a
crash interrupted continues at the next start. For the user, the mailbox is gone with the deletion itself.
"""

import asyncio

import msgspec
import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, RowDrop
from huahuo.eventstore.port import Log
from huahuo.mailcheck.events import mailbox_stream
from huahuo.mailcheck.tables.records import GRAPH, MAIL, MAILS, PURGES, MailRecord, mail_key, number_of

_PAGE_ROWS = 200

_log = structlog.get_logger(__name__)


class Purger:
    """One worker, one page at a time. All methods belong to the loop's thread."""

    def __init__(self, log: Log, ambient: Ambient) -> None:
        self._log = log
        self._ambient = ambient
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def poke(self) -> None:
        """Look for deleted mailboxes now."""
        self._again = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name="purge")

    async def idle(self) -> None:
        """Wait until no removal is running."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Stop between two pages. The next start continues."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            while self._again:
                self._again = False
                while rows := await self._log.rows(PURGES, "", limit=_PAGE_ROWS):
                    for key, _ in rows:
                        await self._purge(key)
        except EventStoreError as error:
            _log.warning("purge_interrupted", error=type(error).__name__)
        finally:
            self._task = None

    async def _purge(self, key: bytes) -> None:
        part = str(number_of(key))
        while records := await self._log.rows(MAILS, part, limit=_PAGE_ROWS):
            drops: list[RowDrop] = []
            blobs: list[str] = []
            for record_key, value in records:
                record = msgspec.json.decode(value, type=MailRecord)
                drops += (RowDrop(MAILS, part, record_key), RowDrop(MAIL, "", mail_key(record.mail_id)))
                blobs.append(record.blob)
            await self._append(tuple(drops), tuple(blobs))
        while rows := await self._log.rows(GRAPH, part, limit=_PAGE_ROWS):
            await self._append(tuple(RowDrop(GRAPH, part, row_key) for row_key, _ in rows), ())
        # Ids are never reused: nothing more will be written to its stream.
        await self._append((RowDrop(PURGES, "", key),), (), (mailbox_stream(number_of(key)),))

    async def _append(
        self, drops: tuple[RowDrop, ...], blobs: tuple[str, ...], ended: tuple[str, ...] = ()
    ) -> None:
        await self._log.append(
            Append(
                ts_ms=self._ambient.now_ms(), rows=drops, drop_blobs=blobs, ended=ended, principal="service"
            )
        )
