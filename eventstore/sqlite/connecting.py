"""Connections to the file of a log: the one that writes, and those that only read."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from huahuo.eventstore.core.sums import register
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.schema import PAGE_BYTES

BUSY_TIMEOUT_MS = 5000
_WAL_BYTES_KEPT = 64 << 20
WAL_CHECKPOINT_BYTES = 2 << 20
"""The size of the write-ahead log at which a commit also checkpoints. That commit is slower: with 16 MiB some
such commits lasted 90 ms. A smaller write-ahead log makes them more frequent and each of them cheaper.
"""

_COMMON_PRAGMAS = ("mmap_size=0", "temp_store=MEMORY", "trusted_schema=OFF", "cell_size_check=ON")
_WRITER_PRAGMAS = (
    "synchronous=FULL",
    "fullfsync=1",  # macOS: a sync that reaches the disk
    "checkpoint_fullfsync=1",
    f"wal_autocheckpoint={WAL_CHECKPOINT_BYTES // PAGE_BYTES}",
    f"journal_size_limit={_WAL_BYTES_KEPT}",
    "foreign_keys=OFF",
    "cache_size=-65536",
    "secure_delete=ON",
)


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the one connection that writes and checkpoints. The file must exist already, with its mode."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        _set(connection, _COMMON_PRAGMAS)
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise EventStoreError(f"{path} cannot have a write-ahead log (journal mode {mode})")  # noqa: TRY301
        _set(connection, _WRITER_PRAGMAS)
        register(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can neither write nor checkpoint, not even when it closes."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        _set(connection, _COMMON_PRAGMAS)
    except BaseException:
        connection.close()
        raise
    return connection


def _set(connection: sqlite3.Connection, pragmas: Iterable[str]) -> None:
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")


def sqlite_version() -> str:
    """The version of the one SQLite library in the process."""
    return sqlite3.sqlite_version
