"""Asking the log who did what, when and why: an index that follows the log's head, and queries on it."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog

from huahuo.eventstore.audit.index import AuditIndex, Consumed, is_damaged
from huahuo.eventstore.audit.query import Counted, Where
from huahuo.eventstore.audit.tables import Row, columns_of
from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.eventstore.executor import Executor, ThreadExecutor
from huahuo.eventstore.limits import PAGE_ROWS_MAX
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.eventstore.model import Page as LogPage

PAGE_BYTES_MAX = 4 << 20
_BATCH_EVENTS = 1000
_SETTLE_EVENTS = 20_000

_log = structlog.get_logger(__name__)

type Told = Callable[[int, int], None]
"""Called with the position of the index and that of the log."""


class IndexDamaged(EventStoreError):  # noqa: N818  a state, as `Damaged`
    """The file of the index was damaged. It is empty now, and made again by `catch_up`."""


class Page(msgspec.Struct, frozen=True):
    """Matches by ascending position. `next` is the `after` of the following page, None at the end."""

    rows: list[Row]
    next: int | None


class Audit:
    """Questions to one log. Calls wait for one another: the index has one connection."""

    def __init__(self, log: LogReader, index: AuditIndex, executor: Executor) -> None:
        self._log = log
        self._index = index
        self._executor = executor

    @classmethod
    async def open(
        cls, log: LogReader, path: Path | None, executor: Executor | None = None, *, copied: bool = False
    ) -> Self:
        """Use the index at `path` (None: in memory). One of another history, or that lacks rows, is rebuilt.

        An executor that is passed must have one thread. If the file was `copied`, it is checked first.

        Raises:
            EventStoreError: the index cannot be made.
        """
        jobs = executor or ThreadExecutor(1, "audit-index")
        try:
            index = await jobs.run(lambda: AuditIndex(path))
        except sqlite3.Error as error:
            jobs.close()
            raise EventStoreError(f"the audit index cannot be made: {error}") from None
        audit = cls(log, index, jobs)
        if copied and not await audit._job(index.is_whole):
            await audit._job(index.discard)
        elif not await audit._belongs() or await audit._lacks_rows():
            await audit._job(index.reset)
        return audit

    async def close(self) -> None:
        """Close the index and the executor."""
        await self._job(self._index.close)
        self._executor.close()

    async def behind(self) -> int:
        """How many positions the index is behind the log."""
        return self._log.position - await self._position()

    async def catch_up(self, events_max: int | None = None, told: Told | None = None) -> bool:
        """Bring the index forward, by about `events_max` events; returns whether it is at the head.

        Raises:
            Closed, Unavailable, Damaged: the log could not be read.
        """
        at, upto, taken = await self._position(), self._log.position, 0
        while at < upto and (events_max is None or taken < events_max):
            page = await self._log.read(LOG_STREAM, at, events_max=_BATCH_EVENTS)
            if not page:
                break
            try:
                await self._job(partial(self._index.add, self._log.log_id, page))
            except IndexDamaged:
                at = 0
                continue
            at = page[-1].position
            taken += len(page)
            if told is not None:
                told(at, upto)
        if taken >= _SETTLE_EVENTS:
            await self._job(self._index.settle)
        return at >= upto

    async def page(self, where: Where, *, after: int = 0, upto: int | None = None, limit: int = 100) -> Page:
        """The matches after `after` up to `upto`: at most `limit`, and at most `PAGE_ROWS_MAX`.

        Raises:
            ValueError: the text to search for holds no word.
            IndexDamaged: what can be answered is known only after `catch_up`.
        """
        end = self._log.position if upto is None else upto
        count = max(1, min(limit, PAGE_ROWS_MAX))
        found = await self._job(lambda: self._index.find(where, after, end, count + 1))
        rows = _within(found[:count])
        written = await self._written(rows)
        if wrong := await self._executor.run(lambda: _wrong(rows, written)):
            await self._make_anew(f"its row of the event at {wrong} is not what was written")
        return Page(rows, rows[-1].position if len(rows) < len(found) else None)

    async def count(self, where: Where, *, upto: int | None = None) -> Counted:
        """How many events match, and their commonest values. Raises as `page`."""
        end = self._log.position if upto is None else upto
        return await self._job(lambda: self._index.count(where, end))

    async def _job[T](self, job: Callable[[], T]) -> T:
        try:
            return await self._executor.run(job)
        except sqlite3.Error as error:
            if is_damaged(error):
                await self._make_anew(error)
            raise EventStoreError(f"the audit index cannot be used (it may be deleted): {error}") from None

    async def _written(self, rows: Sequence[Row]) -> list[StoredEvent | None]:
        """The events of these rows, None for one that the log has no more. None for all if one is damaged."""
        asked = [LogPage(LOG_STREAM, row.position - 1, 1, PAGE_BYTES_MAX) for row in rows]
        try:
            pages = await self._log.read_pages(asked)
        except Corrupt:  # the index may have the only good copy
            return [None] * len(rows)
        return [
            page[0] if page and page[0].position == row.position else None
            for row, page in zip(rows, pages, strict=True)
        ]

    async def _make_anew(self, error: sqlite3.Error | str) -> None:
        """Empty a file that is damaged. Raises IndexDamaged, or EventStoreError: it cannot be emptied."""
        try:
            await self._executor.run(self._index.discard)
        except (sqlite3.Error, OSError) as again:
            raise EventStoreError(f"the audit index is damaged, delete it: {again}") from None
        _log.warning("audit_index_made_again", reason=str(error))
        raise IndexDamaged(
            f"the audit index was damaged ({error}); it is made again: ask once more"
        ) from None

    async def _position(self) -> int:
        known = await self._consumed()
        return 0 if known is None else known.position

    async def _consumed(self) -> Consumed | None:
        try:
            return await self._job(self._index.consumed)
        except IndexDamaged:
            return None

    async def _lacks_rows(self) -> bool:
        try:
            return await self._job(self._index.lacks_rows)
        except IndexDamaged:  # it is empty now
            return False

    async def _belongs(self) -> bool:
        """Whether the history that the index consumed is still the log's history."""
        try:
            known = await self._consumed()
        except (KeyError, ValueError):  # what it says of itself is damaged
            return False
        if known is None:
            return True
        log = self._log
        if known.log_id != log.log_id or known.position > log.position:
            return False
        return await log.chains(known.position - 1, known.position) == [known.chain]


def _wrong(rows: Sequence[Row], written: Sequence[StoredEvent | None]) -> int:
    """The position of the first row that is not its event's, 0 if there is none."""
    for row, event in zip(rows, written, strict=True):
        if event is not None and msgspec.structs.astuple(row) != _told(event):
            return row.position
    return 0


def _told(event: StoredEvent) -> tuple[Any, ...]:
    *columns, data = columns_of(event)[0]
    return (*columns, msgspec.Raw(data.encode()))


def _within(rows: list[Row]) -> list[Row]:
    """The first rows whose data is at most `PAGE_BYTES_MAX`; at least one."""
    size = 0
    for count, row in enumerate(rows):
        size += len(bytes(row.data))
        if count and size > PAGE_BYTES_MAX:
            return rows[:count]
    return rows
