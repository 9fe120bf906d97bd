"""Whether another program wrote the database: while no service had it open, after a kill, or beside one.

Rows outside the hash chain that somebody deletes by SQL leave nothing that could fail a check. But the file
was written then, and nobody except the log's writer does that. Nothing is read for it: a clean close notes
the size and the time of the file, and SQLite counts what other connections commit. A service that is killed
leaves frames in the write-ahead log, which another program empties when it closes the file, also if it only
read; the lock file says whether there must be some.
"""

import sqlite3
from pathlib import Path
from typing import Final

import msgspec
import structlog

WHILE_CLOSED: Final = (
    "log.db was written by another program since the service closed it: what that deleted outside the hash"
    " chain (secrets, contents, rows, answers of commands) is missed by no check"
)
AFTER_A_KILL: Final = (
    "log.db was opened by another program, or put back from a copy, since the service ended without a close:"
    " its write-ahead log is empty or gone. What was deleted outside the hash chain (secrets, contents, rows,"
    " answers of commands), if anything was, is missed by no check"
)
WHILE_OPEN: Final = (
    "log.db was written by another program while the service had it open: what that deleted outside the hash"
    " chain (secrets, contents, rows, answers of commands) is missed by no check"
)
_SECOND_NS: Final = 1_000_000_000
_COARSE_NS: Final = 2 * _SECOND_NS
"""A file system may keep whole seconds, or every second one, and tell another time after a while."""

_log = structlog.get_logger(__name__)


class Stamp(msgspec.Struct, frozen=True):
    """The database's file as a clean close left it."""

    inode: int
    size: int
    mtime_ns: int


def stamp_of(path: Path) -> Stamp | None:
    """How the file is now; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)


def was_written(left: Stamp | None, now: Stamp | None) -> bool:
    """Whether it is the same file, with other content. A copy is another file: nothing is known of it.

    A copy may have the inode of a file that is gone: `directory_lock` drops the stamp of such a one.
    """
    if left is None or now is None or left.inode != now.inode:
        return False
    # A power cut after the close may give the file an earlier time back, which is not synced with its pages.
    moved_ns = now.mtime_ns - left.mtime_ns
    coarse = not (now.mtime_ns % _SECOND_NS and left.mtime_ns % _SECOND_NS)
    return left.size != now.size or moved_ns > (_COARSE_NS if coarse else 0)


class Others:
    """What others than `connection`, which is the log's writer, did to the database.

    `before`: what is known of the time before it was opened. `told`: what is known, "" if that is nothing.
    """

    def __init__(self, connection: sqlite3.Connection, *, before: str) -> None:
        self.told = before
        if before:
            _log.error("log_written_by_others", told=self.told)
        self.watch(connection)

    def watch(self, connection: sqlite3.Connection) -> None:
        """From now on. Also after a commit that failed, which SQLite may count as one of others."""
        self._connection = connection
        self._version = self._now()

    def look(self) -> None:
        """Look whether another connection has committed since the last look."""
        version = self._now()
        if version != self._version:
            self._version, self.told = version, WHILE_OPEN
            _log.error("log_written_by_others", told=self.told)

    def _now(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version
