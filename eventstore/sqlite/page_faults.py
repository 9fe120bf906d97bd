"""Whether the pages of a log's file are whole. Every verdict on a file is made here."""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final, Literal

import structlog

from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.sqlite.connecting import connect_writer
from huahuo.eventstore.sqlite.looking_over import LATER
from huahuo.eventstore.sqlite.table_faults import faults_said

COPY: Final = "log.db.copying"
"""A copy without free pages that is not complete yet. One that was left is removed at the next start."""
_COPYING_PAGES: Final = 256
"""Pages in memory while they are copied: 2 MiB, since each is read once."""

_log = structlog.get_logger(__name__)


def page_faults(
    connection: sqlite3.Connection, check: Literal["quick_check", "integrity_check"], most: int
) -> list[str]:
    """At most `most` faults of the file's pages."""
    return faults_said(connection, f"PRAGMA {check}({most})")[:most]


def check_pages(connection: sqlite3.Connection) -> None:
    """Look at every page of the file. Damage in a table that is looked at otherwise is passed over.

    Raises:
        Damaged: another page is damaged.
    """
    said = page_faults(connection, "quick_check", 1)
    if not said:
        return
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    harmed = {table for table in tables if faults_said(connection, f"PRAGMA quick_check('{table}')")}
    if not harmed or not harmed <= {*LATER}:
        raise Damaged(0, said[0])


def give_free_pages_back(path: Path) -> str:
    """Copy the database without free pages, in place of it. Returns why not, else "".

    No other connection may be open. It takes room on the disk for a second file, and no memory.
    """
    copy = path.with_name(COPY)
    try:
        with contextlib.closing(connect_writer(path)) as connection:
            if faults := page_faults(connection, "integrity_check", 1):
                return f"a page is damaged: {faults[0]}"
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            copy.unlink(missing_ok=True)
            os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            connection.execute(f"PRAGMA cache_size={_COPYING_PAGES}")
            connection.execute("VACUUM INTO ?", (str(copy),))
        if path.with_name(f"{path.name}-wal").exists():
            return "another process reads the file"
        put_in_place(copy, path)
    except (sqlite3.Error, OSError) as error:
        _log.warning("pages_stay", path=str(path), error=str(error))
        return str((isinstance(error, OSError) and error.strerror) or error)
    finally:
        copy.unlink(missing_ok=True)
    return ""


def put_in_place(copy: Path, path: Path) -> None:
    """Replace the file by its copy, with the same owner and durably. Raises OSError."""
    of = path.stat()
    file = os.open(copy, os.O_RDWR)
    try:
        os.fchown(file, of.st_uid, of.st_gid)
        os.fsync(file)
    finally:
        os.close(file)
    copy.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
