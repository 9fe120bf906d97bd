"""What must hold of a log's database before it may be written again: the opening of a file that is there."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.ages import AgeNote
from huahuo.eventstore.core.kept import KeptLimits
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.errors import Corrupt, EventStoreError, WrongKey
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.changes import AGE_KEY
from huahuo.eventstore.sqlite.connecting import connect_reader, connect_writer
from huahuo.eventstore.sqlite.directory_lock import DirectoryLock
from huahuo.eventstore.sqlite.faults import is_corrupt
from huahuo.eventstore.sqlite.index_proof import prove_index
from huahuo.eventstore.sqlite.loading import load, select_end
from huahuo.eventstore.sqlite.mark import MARK, Mark, MarkFile
from huahuo.eventstore.sqlite.meta import FIRST_NUMBER, get_meta, put_meta
from huahuo.eventstore.sqlite.names import Names
from huahuo.eventstore.sqlite.naming import read_naming
from huahuo.eventstore.sqlite.page_faults import check_pages
from huahuo.eventstore.sqlite.passed import follows_an_order, leave_order, with_passed
from huahuo.eventstore.sqlite.preparing import prepare
from huahuo.eventstore.sqlite.reads import SqliteReads
from huahuo.eventstore.sqlite.schema import COMMAND_FITS
from huahuo.eventstore.sqlite.store import SqliteStore
from huahuo.eventstore.sqlite.table_faults import check_first
from huahuo.eventstore.sqlite.tail_check import tail_damage
from huahuo.eventstore.sqlite.unindexed import Unindexed


def check_log(path: Path, **how: Any) -> tuple[SqliteStore, SqliteReads, Loaded]:
    """Open the database at `path` to write it. `how`, and what it raises: as `_checked`."""
    connection = connect_writer(path)
    try:
        return _checked(path, connection, **how)
    except BaseException:
        connection.close()
        raise


def _checked(
    path: Path,
    connection: sqlite3.Connection,
    *,
    lock: DirectoryLock,
    ambient: Ambient,
    vault: Vault,
    restored: bool,
    limits: KeptLimits,
    log_id: str,
    alone: bool,
) -> tuple[SqliteStore, SqliteReads, Loaded]:
    """Everything that must hold before the log may be written again."""
    # The commits of a killed process may be in the page cache only: make them durable before they are read.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if lock.lost_power:  # reads every page: seconds if the log is large
        with contextlib.closing(connect_reader(path)) as looking:
            check_pages(looking)
    connection.execute("BEGIN IMMEDIATE")
    # Before the first write, so that what is damaged stays as it was found; and by a connection of its own,
    # since SQLite writes no more in a transaction that met a damaged page.
    with contextlib.closing(connect_reader(path)) as looking:
        check_first(looking)
    _identify(connection, path, ambient, vault, log_id=log_id, anew=restored, alone=alone)
    naming = read_naming(connection)
    links = seq_index.catch_up(connection, naming, whole=not restored)
    ends = prove_index(connection, naming, select_end(connection)[0])
    master_key, old_epoch = (_must_have(connection, key) for key in ("master_key", "writer_epoch"))
    if not vault.knows(master_key):
        raise WrongKey(f"the log in {path.parent} was made with another master key")
    epoch = int(old_epoch) + 1
    put_meta(connection, "writer_epoch", str(epoch).encode())
    connection.execute("COMMIT")
    if restored:
        # The new id must not be lost with the write-ahead log: the mark belongs to it.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    names, unindexed = Names(), Unindexed()
    reads = SqliteReads(path, names, unindexed)
    loaded = load(connection, names, unindexed, naming, summed=True, links=links, ends=ends)
    noted = {"first_number": _first_number(connection), "age": _age(connection)}
    loaded = with_passed(connection, msgspec.structs.replace(loaded, **noted))
    for damage in tail_damage(connection, names, unindexed, loaded, lock.left):
        reads.corruption.note(damage)
    counted = sum(loaded.counters.values())
    mark = MarkFile(path.with_name(MARK), Mark(loaded.log_id, loaded.position, loaded.chain, counted))
    try:
        store = SqliteStore(path, connection, names, unindexed, reads, lock, epoch, loaded, mark, limits)
        lock.hold()
    except BaseException:
        mark.close()
        raise
    return store, reads, loaded


def _identify(
    connection: sqlite3.Connection,
    path: Path,
    ambient: Ambient,
    vault: Vault,
    *,
    log_id: str,
    anew: bool,
    alone: bool,
) -> None:
    """Give a new log its id, and one that was restored another."""
    if prepare(connection):
        put_meta(connection, "log", (log_id or ambient.token()).encode())
        put_meta(connection, "writer_epoch", b"0")
        put_meta(connection, "master_key", vault.mark())
    elif anew:
        put_meta(connection, "log", ambient.token().encode())
        leave_order(connection)
    elif alone and follows_an_order(connection):
        raise EventStoreError(
            f"{path.parent} is a replica of a log that several nodes share: only its node writes it, by"
            " `huahuo serve --log …`. Ask that node, or restore a backup of it as a single service"
        )


def _first_number(connection: sqlite3.Connection) -> int:
    """The first number of a counter without a row."""
    return int(get_meta(connection, FIRST_NUMBER) or b"1")


def _age(connection: sqlite3.Connection) -> AgeNote | None:
    """The last note of the command records' clock, or else the time of the newest record."""
    noted = get_meta(connection, AGE_KEY)
    if noted is not None:
        return msgspec.json.decode(noted, type=AgeNote)
    sql = f"SELECT ts FROM command WHERE {COMMAND_FITS} ORDER BY rowid DESC LIMIT 1"  # noqa: S608  constant
    try:
        row = connection.execute(sql).fetchone()
    except sqlite3.DatabaseError as error:
        if not is_corrupt(error):
            raise
        row = None  # its records are told when they are asked for
    return None if row is None else AgeNote(row[0], row[0])


def _must_have(connection: sqlite3.Connection, key: str) -> bytes:
    value = get_meta(connection, key)
    if value is None:
        raise Corrupt(f"the log's own value `{key}`", "missing")
    return value
