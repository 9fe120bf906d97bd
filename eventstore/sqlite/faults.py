"""What the errors of SQLite's library mean to the log."""

import errno
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Final

from huahuo.eventstore.errors import MISREAD, Corrupt, EventStoreError, NoRoom, Unavailable

FAULTS: Final = (sqlite3.Error, *MISREAD)
"""What reading a damaged file raises."""
_ROOM_BYTES: Final = 1 << 20
"""With this much free, a failure to make, lengthen or map a file has another cause than a full disk."""
_FOR_WANT_OF_ROOM: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY_CODE = 0xFF


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether the file is damaged, and not only busy or full."""
    code = getattr(error, "sqlite_errorcode", None)
    # `sqlite3` itself reports, without a code, a text that is not UTF-8 or a value that is too long.
    found_here = code is None and (isinstance(error, sqlite3.DataError) or "decode" in str(error))
    return found_here or (code is not None and code & _PRIMARY_CODE in _CORRUPT)


def translated(
    error: sqlite3.Error, place: str = "the log's file", *, wrote_nothing: bool = False
) -> EventStoreError:
    """The log's own error for one of the library. It contains no parameters of the statement.

    `wrote_nothing`: see `Corrupt`.
    """
    if not is_corrupt(error):
        return Unavailable(str(error))
    corrupt = Corrupt(place, str(error))
    corrupt.wrote_nothing = wrote_nothing
    return corrupt


def no_room(error: BaseException, directory: Path) -> NoRoom | None:
    """The error to raise if `directory` could not be opened because its disk is full, else None.

    SQLite calls it an I/O error if it was the index of the write-ahead log that could not be made.
    """
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    else:
        code = getattr(error, "sqlite_errorcode", None)
        full = code == sqlite3.SQLITE_FULL
        if code is not None and code & _PRIMARY_CODE in _FOR_WANT_OF_ROOM and not full:
            try:
                full = shutil.disk_usage(directory).free < _ROOM_BYTES
            except OSError:
                return None
    return NoRoom(directory) if full else None


def unusable(error: OSError, directory: Path) -> EventStoreError:
    """The error to raise if a file of `directory` cannot be used. It says which and what to do."""
    path, why = error.filename or directory, error.strerror or type(error).__name__
    if not isinstance(error, PermissionError):
        return EventStoreError(f"{path} cannot be used: {why}")
    return EventStoreError(
        f"{path} cannot be used: {why}. This is user {os.geteuid()}: do it as the user that the service runs"
        f" as, or give all of {directory} to this user"
    )


def text_of(value: bytes) -> str:
    """A text that may be damaged, for `text_factory`: what is no UTF-8 is replaced, and fits no checksum."""
    return value.decode(errors="replace")


def of_commit(error: BaseException, wrote_nothing: bool) -> BaseException:
    """The log's own error for one of a commit, with whether that is known to have written nothing."""
    if isinstance(error, sqlite3.Error):
        return translated(error, wrote_nothing=wrote_nothing)
    if isinstance(error, Corrupt):
        error.wrote_nothing = wrote_nothing
    return error
