"""A look for rows that a damaged page hides (`table_faults`), in parallel with the service.

A read that does not find a row cannot know that it was there. So every table is looked at once after the
start. Until its table was looked at, a read waits before it says that a row is missing.
"""

import asyncio
import contextlib
import functools
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.sqlite.connecting import connect_reader
from huahuo.eventstore.sqlite.faults import translated
from huahuo.eventstore.sqlite.table_faults import damage_of

_log = structlog.get_logger(__name__)

LATER = ("projection", "data_key", "command", "ack", "usage", "sealed", "keyframe", "blob")
"""What is asked for row by row, looked at in parallel with the service: 2 µs a row and a read of each page.

First what a start reads, then what the first commands ask for. A command that waits for the records also
waits for the keys, because an owner must not get a second key. Last the contents, which may take minutes.
"""
HOLD_S = {"projection": 2.0, "command": 10.0}
"""Seconds after the start for which lists of rows, and groups with commands, wait for the look at these."""
_STEPS_BETWEEN_LOOKS = 100_000
"""SQLite's steps after which it asks whether the log is being closed: some milliseconds."""
_STOP_AGAIN_S = 0.05
"""An interrupt that came just before a statement began does nothing: it is repeated after this time."""


class LookingOver:
    """One look at all tables in `LATER`, by an executor that it closes. Damage is an alarm, and 503."""

    def __init__(self, path: Path, corruption: Corruption, executor: Executor) -> None:
        self._path = path
        self._corruption = corruption
        self._executor = executor
        self._passed = {table: asyncio.Event() for table in LATER}
        self._hold_until = {
            table: asyncio.get_running_loop().time() + seconds for table, seconds in HOLD_S.items()
        }
        self._ending = False
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._task = asyncio.create_task(self._run(), name="look at the rows")

    async def passed(self, table: str) -> None:
        """Wait until `table` was looked at, at most until `HOLD_S` after the start."""
        passed = self._passed[table]
        if not passed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._hold_until[table]):
                    await passed.wait()

    def then(self, call: Callable[[], None]) -> None:
        """Call `call` when it has ended."""
        self._task.add_done_callback(lambda _: call())

    async def finished(self) -> None:
        """Wait until all is looked at."""
        await self._task

    async def stop(self) -> None:
        """End it, within milliseconds also in the middle of a table or of a large tree of pages."""
        self._ending = True
        try:
            while not self._task.done():
                self._interrupt()
                await asyncio.wait({self._task}, timeout=_STOP_AGAIN_S)
            await self._task
        finally:
            self._executor.close(wait=False)

    def _interrupt(self) -> None:
        """SQLite's progress handler is hardly called while it walks pages; an interrupt is seen at each."""
        with self._lock:
            if self._connection is not None:
                self._connection.interrupt()

    async def _run(self) -> None:
        try:
            for table in LATER:
                if self._ending:
                    return
                await self._look_at(table)
                self._passed[table].set()
        finally:
            for passed in self._passed.values():
                passed.set()

    async def _look_at(self, table: str) -> None:
        try:
            found = await self._executor.run(functools.partial(self._look, table))
        except Corrupt as error:
            found = error
        except EventStoreError as error:  # it is being stopped, or the file cannot be read now
            if not self._ending:
                _log.warning("rows_not_looked_at", table=table, reason=str(error))
            return
        if found is not None:
            self._corruption.note(found)

    def _look(self, table: str) -> Corrupt | None:
        """A connection of its own for each table, so that no snapshot is kept for longer than one takes."""
        try:
            with contextlib.closing(connect_reader(self._path)) as connection:
                connection.set_progress_handler(lambda: self._ending, _STEPS_BETWEEN_LOOKS)
                with self._lock:
                    self._connection = connection
                try:
                    return damage_of(connection, table)
                finally:
                    with self._lock:
                        self._connection = None
        except sqlite3.Error as error:
            raise translated(error, f"table {table}") from None
