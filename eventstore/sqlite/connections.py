"""Connections to SQLite files.

The one that writes a log, those that only read, and what the library's errors mean.

`ForeignDatabase` is another program's file, read and never written: rows of its tables, a page at a time.
"""

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

from huahuo.eventstore.errors import MISREAD, Closed, Corrupt, EventStoreError, NoRoom, Unavailable
from huahuo.eventstore.sqlite.schema import PAGE_BYTES, register

BUSY_TIMEOUT_MS = 5000
_WAL_BYTES_KEPT = 64 << 20
WAL_CHECKPOINT_BYTES = 2 << 20
"""The size of the write-ahead log at which a commit also checkpoints. That commit is slower: with 16 MiB some
such commits lasted 90 ms. A smaller write-ahead log makes them more frequent and each of them cheaper.
"""

_STATEMENTS_KEPT = 256
"""Of each kind there are up to 20, by the rows in them."""
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
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS_KEPT
    )
    try:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        _set_pragmas(connection, _COMMON_PRAGMAS)
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise EventStoreError(f"{path} cannot have a write-ahead log (journal mode {mode})")  # noqa: TRY301
        _set_pragmas(connection, _WRITER_PRAGMAS)
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
        _set_pragmas(connection, _COMMON_PRAGMAS)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_pragmas(connection: sqlite3.Connection, pragmas: Iterable[str]) -> None:
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")


def sqlite_version() -> str:
    """The version of the one SQLite library in the process."""
    return sqlite3.sqlite_version


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """What is read inside is all from one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # else an error ended it
            connection.execute("ROLLBACK")


_PASSING_KIB = 2048


@contextlib.contextmanager
def passing_through(connection: sqlite3.Connection) -> Iterator[None]:
    """For a walk over a whole table, of whose pages none is needed twice: few are kept.

    Otherwise they would take all the room that is meant for commits, as long as the process lives: what
    SQLite gives back in such small pieces stays with the process.
    """
    [kept] = connection.execute("PRAGMA cache_size").fetchone()
    connection.execute(f"PRAGMA cache_size=-{_PASSING_KIB}").close()
    try:
        yield
    finally:
        connection.execute(f"PRAGMA cache_size={int(kept)}").close()


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


class ReaderPool:
    """The read-only connections of a SQLite log.

    Any number of calls at once, each on a connection of its own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    def close(self) -> None:
        """Close all connections. One that a call still has is closed when that ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        self._idle.append(connection)
        if self._closed:  # meanwhile, by a start that failed: nothing else would close it
            self.close()

    @contextlib.contextmanager
    def connection(self, place: str = "the log's file") -> Iterator[sqlite3.Connection]:
        """An idle connection or a new one: at most one for each job that runs.

        `place` names what is read, for the error if that fails.
        """
        if self._closed:
            raise Closed("the log has been closed")
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = connect_reader(self._path)
            try:
                yield connection
            finally:
                self._give_back(connection)
        except sqlite3.Error as error:
            raise translated(error, place) from None
        except MISREAD as error:
            # A column whose header is damaged has a value of another type.
            raise Corrupt(place, f"a value is none that was written ({type(error).__name__})") from error


_FOREIGN_PAGE_ROWS: Final = 200


class NotReadable(EventStoreError):  # noqa: N818  a fact about a file
    """The file is not there, or is no such database."""


class ForeignDatabase:
    """Another program's SQLite file, read and never written: rows of its tables, a page at a time.

    A missing column reads as None: older versions of a schema have fewer.
    """

    def __init__(self, file: Path) -> None:
        """Raises NotReadable."""
        self._file = file
        if not file.is_file():
            raise NotReadable(f"there is no file {file}")
        # Not `immutable`: the program that owns the file may be running.
        self._connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        self._connection.row_factory = sqlite3.Row
        try:
            self._asked("SELECT count(*) FROM sqlite_master")
        except NotReadable:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def count(self, table: str) -> int | None:
        """How many rows a table has; None if there is no such table."""
        if not self._columns(table):
            return None
        return int(self._asked(f'SELECT count(*) FROM "{table}"')[0][0])  # noqa: S608  a name in our code

    def rows(self, table: str, columns: Sequence[str], *, key: str = "id") -> Iterator[dict[str, Any]]:
        """The rows in the order of `key`, an integer column. Raises NotReadable."""
        there = self._columns(table)
        named = ", ".join(f'"{name}"' if name in there else f"NULL AS {name}" for name in columns)
        query = f'SELECT {named}, "{key}" AS _at FROM "{table}" WHERE "{key}" > ? ORDER BY "{key}" LIMIT ?'  # noqa: S608
        at = -1
        while there:
            rows = self._asked(query, at, _FOREIGN_PAGE_ROWS)
            for row in rows:
                yield {name: row[name] for name in columns}
            if len(rows) < _FOREIGN_PAGE_ROWS:
                return
            at = rows[-1]["_at"]

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._asked(f'PRAGMA table_info("{table}")')}

    def _asked(self, query: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise NotReadable(f"{self._file} cannot be read: {error}") from error
