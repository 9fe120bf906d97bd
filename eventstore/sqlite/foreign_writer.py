"""Whether another program wrote the database while no service had it open, or after a kill.

Rows outside the hash chain that somebody deletes by SQL leave nothing that could fail a check. But the file
was written then, and nobody except the log's writer does that. Nothing is read for it: a clean close notes
the size and the time of the file. A service that is killed leaves frames in the write-ahead log, which
another program empties when it closes the file, also if it only read; the lock file says whether there must
be some.
"""

from pathlib import Path
from typing import Final

import msgspec

WHILE_CLOSED: Final = (
    "log.db was written by another program since the service closed it: what that deleted outside the hash"
    " chain (secrets, contents, rows, answers of commands) is missed by no check"
)
AFTER_A_KILL: Final = (
    "log.db was opened by another program, or put back from a copy, since the service ended without a close:"
    " its write-ahead log is empty or gone. What was deleted outside the hash chain (secrets, contents, rows,"
    " answers of commands), if anything was, is missed by no check"
)
_SECOND_NS: Final = 1_000_000_000
_COARSE_NS: Final = 2 * _SECOND_NS
"""A file system may keep whole seconds, or every second one, and tell another time after a while."""


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
