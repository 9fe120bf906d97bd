"""Rebuilding what is derived from a log's events."""

import contextlib
import sqlite3
from pathlib import Path

from huahuo.eventstore.errors import MISREAD, EventStoreError
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.directory_lock import DirectoryLock
from huahuo.eventstore.sqlite.loss import check_loss
from huahuo.eventstore.sqlite.meta import put_meta
from huahuo.eventstore.sqlite.schema import DATABASE, SUMMED, connect_writer, is_old, make_index


def rebuild(directory: Path) -> None:
    """Rebuild what is derived from the events: the index and its checksums. Damaged keyframes are deleted.

    No service may run on `directory`. Events are not changed; damaged ones stay damaged.

    Raises:
        InUse: a service runs. Lost: acknowledged events are gone; no file was changed.
        EventStoreError: the file cannot be written.
    """
    lock = DirectoryLock(directory)
    try:
        # Before the first write, which could erase the evidence of a loss.
        check_loss(directory, lock.left, whole=not lock.lost_power)
        with contextlib.closing(connect_writer(directory / DATABASE)) as connection:
            if is_old(connection):
                raise EventStoreError("the log has an older format: start the service once")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DROP TABLE seq_index")
            make_index(connection)
            put_meta(connection, "indexed", b"0")
            seq_index.catch_up(connection)
            columns = ", ".join(SUMMED["keyframe"])
            connection.execute(f"DELETE FROM keyframe WHERE crc <> row_crc('keyframe', {columns})")  # noqa: S608
            connection.execute("COMMIT")
            connection.execute("REINDEX")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (sqlite3.Error, *MISREAD) as error:
        raise EventStoreError(f"the log cannot be rebuilt: {error}; restore a backup") from None
    finally:
        lock.leave(None)
