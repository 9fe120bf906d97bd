"""The file that a search for events fills: whatever looks like an event, with its own room on the disk."""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.event_pages import Pages, find_events

_MAKE: Final = (
    "CREATE TABLE {} (position {}, stream, seq, type, version, ts, entity, principal, command_id, cause,"
    " build, body, chain)"
)
PUT: Final = "INSERT INTO {} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
PUT_HURT: Final = PUT.format("hurt")
"""Keeps what is left of a lost event."""
SCRATCH: Final = "log.db.search-"
"""How the name of the file of a search begins."""
_CACHE_KIB: Final = 16 << 10


def scan(path: Path) -> sqlite3.Connection:
    """Whatever looks like an event in the file `path`. No connection to it may be open in this process."""
    scratch = _scratch_in(path.parent)
    try:
        scratch.execute(_MAKE.format("found", "INTEGER"))
        for table in ("event", "hurt"):
            scratch.execute(_MAKE.format(table, "INTEGER PRIMARY KEY"))
        scratch.execute("CREATE INDEX by_position ON found (position)")  # now: to sort them takes memory
        scratch.execute("BEGIN")
        with contextlib.closing(Pages(path)) as pages, has_room(path.parent):
            scratch.executemany(PUT.format("found"), find_events(pages))
    except BaseException:
        scratch.close()
        raise
    return scratch


def _scratch_in(directory: Path) -> sqlite3.Connection:
    """A database that takes room in `directory`, not in memory, until it is closed or the process ends."""
    file, name = tempfile.mkstemp(prefix=SCRATCH, dir=directory)
    os.close(file)
    try:
        scratch = sqlite3.connect(name, isolation_level=None)
        try:
            for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
                scratch.execute(f"PRAGMA {pragma}")
        except BaseException:
            scratch.close()
            raise
    finally:
        Path(name).unlink(missing_ok=True)  # SQLite has it open; the system frees it in any case
    return scratch


@contextlib.contextmanager
def has_room(directory: Path) -> Iterator[None]:
    """Raises EventStoreError if the disk is full."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_FULL:
            raise
        raise EventStoreError(
            f"events are missing, and {directory} has no room to search for them: it takes twice their size"
        ) from None
