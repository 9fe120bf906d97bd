"""The SQLite engine: opening a directory.

DIR/log.db        the log and what commits with it (mode 0600; -wal and -shm beside it)
DIR/writer.lock   who writes, or how the log was left
"""

import os
import sqlite3
from pathlib import Path
from typing import Self

from eventstore import seq_index
from eventstore.ambient import Ambient
from eventstore.chain import GENESIS, check, merged
from eventstore.errors import MISREAD, Corrupt, Damaged, EventStoreError, WrongKey
from eventstore.executor import Executor, ThreadExecutor
from eventstore.lock import DirectoryLock, Left
from eventstore.log import StoreLog
from eventstore.meta import get_meta, put_meta
from eventstore.schema import DATABASE, connect_writer, prepare
from eventstore.seal import Vault
from eventstore.seq_index import Unindexed
from eventstore.sqlite_reads import (
    EVENTS_BY_POSITION,
    Names,
    SqliteReads,
    select_events,
    select_tombstones,
    translated,
)
from eventstore.sqlite_store import SqliteStore
from eventstore.store import Loaded

TAIL_EVENTS = 1000
"""How many of the last events are checked against the hash chain at every opening."""


class SqliteLog(StoreLog):
    """A `Log` in one directory of the local file system, written by one process."""

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        ambient: Ambient,
        master_key: bytes,
        build: str,
        writer: Executor | None = None,
        readers: Executor | None = None,
        restored: bool = False,
    ) -> Self:
        """Open the log in `directory`, made if it is not there. Executors given stay the caller's.

        `restored` says that the files come from a backup: numbers may have gone back, so the log
        gets a new id, and it may end elsewhere than the directory was left.

        Raises:
            InUse: another process has it open. WrongKey: it was made with another master key.
            Damaged: its files or its last events are not what was written.
            EventStoreError: it cannot be opened.
        """
        owned: list[Executor] = []
        if writer is None:
            owned.append(writer := ThreadExecutor(1, "log-writer"))
        if readers is None:
            owned.append(readers := ThreadExecutor(2, "log-reader"))
        vault = Vault(master_key, ambient)
        try:
            store, reads, loaded = await writer.run(
                lambda: _open(directory, ambient, vault, restored=restored)
            )
        except BaseException:
            for executor in owned:
                executor.close()
            raise
        return cls(
            store, reads, loaded, vault=vault, ambient=ambient, build=build,
            writer=writer, readers=readers, owned=tuple(owned),
        )  # fmt: skip


def _open(
    directory: Path, ambient: Ambient, vault: Vault, *, restored: bool
) -> tuple[SqliteStore, SqliteReads, Loaded]:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DirectoryLock(directory)
    except OSError as error:
        raise EventStoreError(f"{directory} cannot be used: {error.strerror}") from None
    try:
        path = directory / DATABASE
        _make(path)
        connection = connect_writer(path)
        try:
            return _check(path, connection, lock, ambient, vault, restored=restored)
        except BaseException:
            connection.close()
            raise
    except BaseException as error:
        lock.leave(None)
        if isinstance(error, sqlite3.Error):
            raise translated(error) from None
        if isinstance(error, OSError):
            raise EventStoreError(f"{directory} cannot be used: {error.strerror}") from None
        if isinstance(error, MISREAD):
            raise Corrupt("the log's file", f"a value is none that was written ({error})") from error
        raise


def _make(path: Path) -> None:
    """Create the database file with its mode, before SQLite would with a wider one."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        # Never opened here: closing any descriptor of it would drop SQLite's locks in this process.
        path.chmod(0o600)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check(
    path: Path,
    connection: sqlite3.Connection,
    lock: DirectoryLock,
    ambient: Ambient,
    vault: Vault,
    *,
    restored: bool,
) -> tuple[SqliteStore, SqliteReads, Loaded]:
    """Everything that must hold before the log may be written again."""
    # What a killed process left may lie in the page cache only: make durable what will be told of.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if lock.lost_power:  # reads every page: seconds where the log is large
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise Damaged(0, found)
    connection.execute("BEGIN IMMEDIATE")
    if prepare(connection):
        put_meta(connection, "log", ambient.token().encode())
        put_meta(connection, "writer_epoch", b"0")
        put_meta(connection, "master_key", vault.mark())
    elif restored:
        put_meta(connection, "log", ambient.token().encode())
    seq_index.catch_up(connection)
    log_id, mark, old_epoch = (_must_have(connection, key) for key in ("log", "master_key", "writer_epoch"))
    if not vault.knows(mark):
        raise WrongKey(f"the log in {path.parent} was made with another master key")
    epoch = int(old_epoch) + 1
    put_meta(connection, "writer_epoch", str(epoch).encode())
    connection.execute("COMMIT")

    names, unindexed = Names(), Unindexed(seq_index.UNINDEXED_MAX)
    reads = SqliteReads(path, names, unindexed)
    store = SqliteStore(path, connection, names, unindexed, reads, lock, epoch, log_id.decode())
    loaded = store.load()
    _check_tail(connection, names, loaded)
    if not restored:
        _check_end(lock.left, loaded)
    lock.hold()
    return store, reads, loaded


def _must_have(connection: sqlite3.Connection, key: str) -> bytes:
    value = get_meta(connection, key)
    if value is None:
        raise Corrupt(f"the log's own value `{key}`", "missing")
    return value


def _check_tail(connection: sqlite3.Connection, names: Names, loaded: Loaded) -> None:
    """The last events against their chain; the one before them is where the walk starts."""
    start = max(0, loaded.position - TAIL_EVENTS)
    chain = GENESIS
    if start:
        sql = "SELECT chain FROM {} WHERE position = ?1"
        sql = f"{sql.format('event')} UNION ALL {sql.format('pruned')}"
        row = connection.execute(sql, (start,)).fetchone()
        if row is None:
            raise Damaged(start, "missing")
        chain = row[0]
    bounds = (start, loaded.position, TAIL_EVENTS)
    tail = select_events(connection, names, EVENTS_BY_POSITION, bounds, 1 << 62)
    pruned = select_tombstones(connection, names, start, loaded.position, TAIL_EVENTS)
    check(chain, start, {}, merged(tail, pruned))
    for event in tail:
        if loaded.heads[event.stream].seq < event.seq:
            raise Damaged(event.position, "it is not in the index by stream and seq")


def _check_end(left: Left, loaded: Loaded) -> None:
    """Whether the log still ends where the last holder left it: SQLite cannot see a lost tail."""
    if left.pid or left.log != loaded.log_id:
        return
    if (loaded.position, loaded.chain.hex()) != (left.position, left.chain):
        raise Damaged(left.position, f"the log was closed there, but it ends at {loaded.position}")
