"""The log's own errors for those of the `sqlite3` module."""

import sqlite3

from huahuo.eventstore.errors import Corrupt, EventStoreError, Unavailable

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY_CODE = 0xFF


def translated(error: sqlite3.Error, place: str = "the log's file") -> EventStoreError:
    """The log's own error for one of the library. It contains no parameters of the statement."""
    code = getattr(error, "sqlite_errorcode", None)
    # `sqlite3` itself reports, without a code, a text that is not UTF-8 or a value that is too long.
    found_here = code is None and (isinstance(error, sqlite3.DataError) or "decode" in str(error))
    if found_here or (code is not None and code & _PRIMARY_CODE in _CORRUPT):
        return Corrupt(place, str(error))
    return Unavailable(str(error))
