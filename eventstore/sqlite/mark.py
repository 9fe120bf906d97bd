"""The mark of a log's last durable position, and whether its files still reach it.

SQLite silently drops everything after the first frame of its write-ahead log that fails its checksum. So
after each commit, and before anybody is told of it, the writer notes the last position with its link of
the chain in `log.mark`, outside SQLite's files. The note is not synced: after a power cut it may be old,
torn or missing, but it is never ahead of the log. The writer alternates between two slots, so that a torn
write leaves the other intact:

    magic (4) | log id (24) | position (8) | chain (32) | CRC-32 (4) | counters (8) | CRC-32 of all (4)

`counters` is the sum of the next numbers of all counters. Counters never go back, so a log whose sum is
lower has lost the newest state of one.

Before anything changes the files, a log must agree with its mark: the same link at the same position. That
reading must not run SQLite's checkpoint, which would erase the evidence.
"""

import contextlib
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.errors import MISREAD, Corrupt, Damaged, EventStoreError, Lost
from huahuo.eventstore.sqlite.connections import connect_reader, no_room
from huahuo.eventstore.sqlite.directory_lock import Left
from huahuo.eventstore.sqlite.schema import DATABASE, get_meta, tables
from huahuo.eventstore.sqlite.seq_index import link_at
from huahuo.eventstore.sqlite.wal import Frames, read_frames, size_bytes

MARK = "log.mark"
_MAGIC = b"hhm1"
_SLOT = struct.Struct("<4s24sq32sQI")
_PLACE = struct.Struct("<q32sQ")
"""The part of a slot with position, chain and counters."""
_CRC = struct.Struct("<I")
_SLOTS_AT = (0, 512)
_FILE_BYTES = 1024

_log = structlog.get_logger(__name__)


class Mark(msgspec.Struct, frozen=True):
    """The log `log_id` reached at least `position`, whose link of the chain is `chain`.

    `counters` is the least sum of the next numbers of all counters, 0 if it was not noted.
    """

    log_id: str
    position: int
    chain: bytes
    counters: int = 0


class MarkFile:
    """The open mark of a log that this process writes."""

    def __init__(self, path: Path, mark: Mark) -> None:
        """Create or overwrite the file durably, with `mark` in both slots.

        Raises:
            OSError: it cannot be written.
        """
        self._path = path
        self._head = _head(mark.log_id)
        self._head_crc = zlib.crc32(self._head)
        self._turn = 0
        self._failed = False
        self._file = self._made(self._slot(mark.position, mark.chain, mark.counters))

    def _made(self, slot: bytes) -> int:
        """Create or overwrite the file with `slot`. Its descriptor."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # The whole file at once, so that later writes need no more space on a full disk.
            half = slot.ljust(_SLOTS_AT[1], b"\0")
            os.pwrite(file, half + half, 0)
            os.ftruncate(file, _FILE_BYTES)
            os.fsync(file)
        except BaseException:
            os.close(file)
            raise
        return file

    def make_again_if_gone(self, position: int, chain: bytes, counters: int) -> None:
        """Call it when the directory has changed: a note in a deleted file is not found after a crash."""
        try:
            if os.path.samestat(self._path.stat(), os.fstat(self._file)):
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        try:
            file = self._made(self._slot(position, chain, counters))
        except OSError as error:
            _log.warning("mark_not_written", reason=error.strerror, position=position)
            return
        os.close(self._file)
        self._file = file
        _log.warning("mark_made_again", path=str(self._path), position=position)

    def write(self, position: int, chain: bytes, counters: int) -> None:
        """Note what is durable. A failure is only logged, once: the earlier note is still true."""
        self._turn ^= 1
        try:
            os.pwrite(self._file, self._slot(position, chain, counters), _SLOTS_AT[self._turn])
        except OSError as error:
            if not self._failed:
                _log.warning("mark_not_written", reason=error.strerror, position=position)
            self._failed = True
        else:
            self._failed = False

    def _slot(self, position: int, chain: bytes, counters: int) -> bytes:
        place = _PLACE.pack(position, chain, counters)
        return self._head + place + _CRC.pack(zlib.crc32(place, self._head_crc))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_marks(directory: Path) -> list[Mark] | None:
    """The readable notes of a directory, the highest position first. None if there is no file."""
    try:
        data = (directory / MARK).read_bytes()[:_FILE_BYTES]
    except FileNotFoundError:
        return None
    except OSError:
        return []
    found = [mark for at in _SLOTS_AT if (mark := _decode(data[at:])) is not None]
    return sorted(found, key=lambda mark: mark.position, reverse=True)


def _head(log_id: str) -> bytes:
    return struct.pack("<4s24s", _MAGIC, log_id.encode())


def _decode(slot: bytes) -> Mark | None:
    if len(slot) < _SLOT.size:
        return None
    magic, log_id, position, chain, counters, crc = _SLOT.unpack_from(slot)
    if magic != _MAGIC or crc != zlib.crc32(slot[: _SLOT.size - _CRC.size]):
        return None
    return Mark(log_id.rstrip(b"\0").decode(errors="replace"), position, chain, counters)


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
    end, missing = _compare_with_marks(directory, marks)
    if missing is not None:
        raise Lost(missing.position, _say_loss(missing, end, _say_frames(frames)))
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
    end, missing = _compare_with_marks(directory, marks)
    return None if missing is None else _say_loss(missing, end, _say_frames(frames))


class LogEnd(Mark, frozen=True):
    """The end of the log in the files; `at_mark` is its link at the mark's position (b"": none)."""

    at_mark: bytes = b""


def _compare_with_marks(directory: Path, marks: list[Mark] | None) -> tuple[LogEnd, Mark | None]:
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


def find_end(directory: Path, position: int) -> LogEnd:
    """The end of the log in `directory`, and its link at `position`; changes no file.

    Raises:
        Damaged: SQLite cannot read them.
    """
    path = directory / DATABASE
    if not path.exists():
        return LogEnd("", 0, GENESIS)
    try:
        with untouched(path) as connection:
            return _find_end(connection, position)
    except sqlite3.OperationalError as error:
        raise no_room(error, directory) or EventStoreError(f"{path} cannot be read: {error}") from None
    except sqlite3.DatabaseError as error:
        raise Damaged(0, str(error)) from None
    except MISREAD as error:
        raise Corrupt("the log's file", f"a value is none that was written ({error})") from None


def _find_end(connection: sqlite3.Connection, position: int) -> LogEnd:
    if not {"meta", "event", "pruned"} <= tables(connection):
        return LogEnd("", 0, GENESIS)
    log_id = _log_id(connection)
    sql = "SELECT position, chain FROM event ORDER BY position DESC LIMIT 1"
    last, chain = connection.execute(sql).fetchone() or (0, GENESIS)
    at_mark = link_at(connection, position)
    return LogEnd(log_id, last, _bytes(chain), at_mark=b"" if at_mark is None else _bytes(at_mark))


def _log_id(connection: sqlite3.Connection) -> str:
    """The log's id, "" if it is damaged or missing."""
    try:
        return (get_meta(connection, "log") or b"").decode(errors="replace")
    except Corrupt:
        return ""


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


def _say_loss(mark: Mark, end: LogEnd, frames: str) -> str:
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
