"""A look for rows that a damaged page hides: a read that does not find a row cannot know that it was there.

A row that is found is held against its checksum. One whose entry in SQLite's own index is damaged is not
found at all: a repeated command would run twice, and a mail or a password would be missing without a word.
"""

import asyncio
import contextlib
import functools
import sqlite3
from pathlib import Path

import structlog

from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.errors import Corrupt, Unavailable
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.sqlite.reads import translated
from huahuo.eventstore.sqlite.schema import connect_reader

_log = structlog.get_logger(__name__)

FIRST = ("meta", "name", "stream", "counter")
"""What an opening reads as a whole: a lost row here would let numbers or names be given out again."""
LATER = ("command", "data_key", "sealed", "blob", "projection")
"""What is asked for row by row, looked at beside the service: 2 µs a row and a read of each page."""
_STEPS_BETWEEN_LOOKS = 100_000
"""SQLite's steps after which it asks whether the log is being closed: some milliseconds."""


def check_first(connection: sqlite3.Connection) -> None:
    """Raises Corrupt if a page of the tables in `FIRST` is damaged."""
    for table in FIRST:
        _must_be_whole(connection, f"PRAGMA quick_check('{table}')", table)


def check_rows(connection: sqlite3.Connection, table: str) -> None:
    """Compare every row of `table` with SQLite's indexes. Raises Corrupt."""
    _must_be_whole(connection, f"PRAGMA integrity_check('{table}')", table)


def _must_be_whole(connection: sqlite3.Connection, pragma: str, table: str) -> None:
    said = connection.execute(pragma).fetchone()[0]
    if said != "ok":
        raise Corrupt(f"table {table}", " ".join(said.split()))


class LookingOver:
    """One look at all tables in `LATER`, by an executor that it closes. Damage is an alarm, and 503."""

    def __init__(self, path: Path, corruption: Corruption, executor: Executor) -> None:
        self._path = path
        self._corruption = corruption
        self._executor = executor
        self._ending = False
        self._task = asyncio.create_task(self._run(), name="look at the rows")

    async def finished(self) -> None:
        """Wait until all is looked at."""
        await self._task

    async def stop(self) -> None:
        """End it, within milliseconds also in the middle of a table."""
        self._ending = True
        await self._task
        self._executor.close()

    async def _run(self) -> None:
        for table in LATER:
            try:
                await self._executor.run(functools.partial(self._look, table))
            except Corrupt as error:
                self._corruption.note(error)
            except Unavailable as error:  # it is being stopped, or the file cannot be read now
                if not self._ending:
                    _log.warning("rows_not_looked_at", table=table, reason=str(error))
            if self._ending:
                return

    def _look(self, table: str) -> None:
        """A connection of its own for each table, so that no snapshot is kept for longer than one takes."""
        try:
            with contextlib.closing(connect_reader(self._path)) as connection:
                connection.set_progress_handler(lambda: self._ending, _STEPS_BETWEEN_LOOKS)
                check_rows(connection, table)
        except sqlite3.Error as error:
            raise translated(error, f"table {table}") from None
