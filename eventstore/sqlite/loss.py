"""Whether the files of a log still hold every acknowledged event: checked before anything changes them.

A log must agree with its mark (`huahuo.eventstore.sqlite.mark`): the same link of the chain at the same
position. Reading the log must not run SQLite's checkpoint, which would erase the evidence.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.errors import MISREAD, Corrupt, Damaged, EventStoreError, Lost
from huahuo.eventstore.sqlite.connecting import connect_reader
from huahuo.eventstore.sqlite.directory_lock import Left
from huahuo.eventstore.sqlite.faults import no_room
from huahuo.eventstore.sqlite.mark import Mark, read_marks
from huahuo.eventstore.sqlite.meta import get_meta
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.wal import size_bytes
from huahuo.eventstore.sqlite.wal_frames import Frames, read_frames

_log = structlog.get_logger(__name__)


def check_loss(directory: Path, left: Left, *, whole: bool) -> None:
    """Refuse a log that ends before its mark, or that holds another event there; changes no file.

    `left` is how its last writer left it. `whole` says that the write-ahead log must be whole, since the
    machine kept running when its writer ended.

    Raises:
        Lost: with what was found. Damaged: SQLite cannot read the files.
        OSError: a file cannot be read.
    """
    frames = read_frames(directory / f"{DATABASE}-wal")
    marks = read_marks(directory)
    end, missing = _compare(directory, marks)
    if missing is not None:
        raise Lost(missing.position, _say(missing, end, _say_frames(frames)))
    if not left.pid and left.position and left.log == (end.log_id or left.log):
        at_close = (left.position, left.chain)
        if (end.position, end.chain.hex()) != at_close:
            raise Lost(left.position, f"the log was closed there, but it ends at {end.position}")
    # A lock that names no writer lies beside frames only if the note of theirs did not reach the disk: the
    # power was cut, and frames that nobody synced may be lost in any order. The mark has judged the others.
    if frames.cut and whole and left.pid:
        raise Lost(end.position + 1, f"the log ends at {end.position}; {_say_frames(frames)}")
    if marks == [] or (marks is None and end.position):
        _log.warning(
            "mark_lost", directory=str(directory), position=end.position,
            hint="nothing says how far the log went: a damaged write-ahead log could not be noticed",
        )  # fmt: skip


@contextmanager
def without_wal(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads the database alone."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)
    with contextlib.closing(connection):
        yield connection


def missing_from(directory: Path) -> str | None:
    """What is missing from the log of a directory without a writer; None if nothing is known to be.

    Raises:
        EventStoreError: the files cannot be read.
    """
    marks = read_marks(directory)
    if not marks or not (directory / DATABASE).exists():
        return None
    frames = read_frames(directory / f"{DATABASE}-wal")
    end, missing = _compare(directory, marks)
    return None if missing is None else _say(missing, end, _say_frames(frames))


class End(Mark, frozen=True):
    """The end of the log in the files; `at_mark` is its link at the mark's position (b"": none)."""

    at_mark: bytes = b""


def _compare(directory: Path, marks: list[Mark] | None) -> tuple[End, Mark | None]:
    """The log's end, and the mark if the log does not agree with it."""
    mark = marks[0] if marks else None
    end = find_end(directory, mark.position if mark else 0)
    if mark is None or (end.log_id in (mark.log_id, "") and end.at_mark == mark.chain):
        return end, None
    if end.log_id and end.log_id != mark.log_id:
        # The mark of another log: this one was put here on purpose, and clients know it by its id.
        _log.warning("mark_of_another_log", directory=str(directory), mark=mark.log_id, log=end.log_id)
        return end, None
    return end, mark if mark.position else None


def find_end(directory: Path, position: int) -> End:
    """The end of the log in `directory`, and its link at `position`; changes no file.

    Raises:
        Damaged: SQLite cannot read them.
    """
    path = directory / DATABASE
    if not path.exists():
        return End("", 0, GENESIS)
    try:
        with untouched(path) as connection:
            return _find_end(connection, position)
    except sqlite3.OperationalError as error:
        raise no_room(error, directory) or EventStoreError(f"{path} cannot be read: {error}") from None
    except sqlite3.DatabaseError as error:
        raise Damaged(0, str(error)) from None
    except MISREAD as error:
        raise Corrupt("the log's file", f"a value is none that was written ({error})") from None


def _find_end(connection: sqlite3.Connection, position: int) -> End:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"meta", "event", "pruned"} <= tables:
        return End("", 0, GENESIS)
    log_id = _log_id(connection)
    sql = "SELECT position, chain FROM event ORDER BY position DESC LIMIT 1"
    last, chain = connection.execute(sql).fetchone() or (0, GENESIS)
    return End(log_id, last, _bytes(chain), at_mark=_link_at(connection, position))


def _log_id(connection: sqlite3.Connection) -> str:
    """The log's id, "" if it is damaged or missing."""
    try:
        return (get_meta(connection, "log") or b"").decode(errors="replace")
    except Corrupt:
        return ""


def _link_at(connection: sqlite3.Connection, position: int) -> bytes:
    """The link at `position`, b"" if there is none. Tombstones are read only for an event that is gone."""
    if not position:
        return GENESIS
    for table in ("event", "pruned"):
        sql = f"SELECT chain FROM {table} WHERE position = ?"  # noqa: S608  two constants
        if (row := connection.execute(sql, (position,)).fetchone()) is not None:
            return _bytes(row[0])
    return b""


def _bytes(value: object) -> bytes:
    """`value`, if it is bytes: the damaged header of a column gives it another type."""
    if not isinstance(value, bytes):
        raise TypeError("not bytes")
    return value


@contextmanager
def untouched(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads the database with its write-ahead log and leaves every file as it is."""
    has_frames, has_journal = (size_bytes(f"{path}{suffix}") > 0 for suffix in ("-wal", "-journal"))
    if not (has_frames or has_journal):  # SQLite would make an empty write-ahead log
        with without_wal(path) as connection:
            yield connection
        return
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
        # Exclusive from the start: the index of the write-ahead log is then built in memory, not in -shm.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA query_only=ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()  # a reader that outlived the writer holds its lock, or the file is read-only
        connection = connect_reader(path)
    except BaseException:
        connection.close()
        raise
    with contextlib.closing(connection):
        yield connection


def _say(mark: Mark, end: End, frames: str) -> str:
    if end.position < mark.position:
        found = (
            f"acknowledged events are missing: log.mark says {mark.position}, the log ends at {end.position}"
        )
    else:
        found = (
            f"log.mark says {mark.position}, and the log has another event there (it ends at {end.position})"
        )
    return f"{found}; {frames}"


def _say_frames(frames: Frames) -> str:
    if frames.header_bad:
        return f"the header of log.db-wal is damaged, in front of {frames.behind} frames"
    if frames.bad:
        return f"frame {frames.bad} of log.db-wal is the first bad one, {frames.behind} follow it"
    return f"log.db-wal holds {frames.committed} frames and no bad one"
