"""SQLite's write-ahead log: its file seen from outside, its frames, and its size.

If a file grew, a sync must also write its new size; if it was overwritten, only its content. SQLite makes
the file exactly as long as what it has written. So zeros are written after its end. No frame is ever read
from them: a frame names a page above 0 and repeats the salts of the file's header, and a header of zeros
lacks the magic number.

SQLite uses the frames up to the last commit before the first bad frame: one whose salts are not the
header's, or whose checksum does not continue the previous one. Each checksum is computed from the previous
*stored* one, so frames after a damaged one still prove that they follow it. Format:
https://www.sqlite.org/fileformat2.html#the_write_ahead_log

SQLite makes the checkpoints (`wal_autocheckpoint`): after each it writes the file from the start again,
and it alone knows how many frames the file holds. `WalCare` extends, checkpoints and empties the file.
"""

import contextlib
import os
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog

from huahuo.eventstore.sqlite.connections import WAL_CHECKPOINT_BYTES

_ZEROS = bytes(256 << 10)


def size_bytes(path: str) -> int:
    """How long the file is; 0 if there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116  asked after every commit: a path object costs
    except OSError:
        return 0


def extend(path: str, to_bytes: int) -> None:
    """Write zeros from the end of the file up to `to_bytes`, and make them durable.

    Hold SQLite's write lock: else another writer could put its frames where this saw the end. The room is
    written, not reserved, since the first write into reserved room costs as much as growing. Closing the
    file is harmless, since SQLite locks the database and the -shm file, never the write-ahead log.

    Raises:
        OSError: for example, the disk is full; the file is cut back to its old length.
    """
    file = os.open(path, os.O_WRONLY)
    try:
        at = end = os.fstat(file).st_size
        try:
            while at < to_bytes:
                at += os.pwrite(file, _ZEROS[: to_bytes - at], at)
            os.fsync(file)
        except OSError:
            os.ftruncate(file, end)
            raise
    finally:
        os.close(file)


_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGICS = {0x377F0682: "<", 0x377F0683: ">"}
_WORD = 0xFFFFFFFF
_PAGE_BYTES_MAX = 65_536

type _Sums = tuple[int, int]


class Frames(msgspec.Struct, frozen=True):
    """The state of the run of frames that the file's header began.

    SQLite reads `committed` frames. `bad` is the number, from 1, of the first bad frame of the run (0: none),
    and `behind` how many frames of the run follow it. `cut` says that a whole commit is among those. A power
    cut or a failed write may leave that; otherwise the file was damaged.
    """

    committed: int = 0
    bad: int = 0
    behind: int = 0
    cut: bool = False
    header_bad: bool = False


def read_frames(path: Path) -> Frames:
    """Read the write-ahead log `path`; an absent or empty one holds no frames.

    Raises:
        OSError: it cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return Frames()
    with file:
        return _read(file)


def _read(file: BinaryIO) -> Frames:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return Frames()
    magic, _version, page_bytes, _sequence, salt_1, salt_2, sum_1, sum_2 = _HEADER.unpack(header)
    order = _MAGICS.get(magic, "<")
    sums = _checksum(order, header[:24], (0, 0))
    header_bad = magic not in _MAGICS or sums != (sum_1, sum_2)
    if header_bad and not any(header):
        return Frames()  # room made ahead of the first frame
    if not 512 <= page_bytes <= _PAGE_BYTES_MAX:  # noqa: PLR2004  SQLite's smallest page
        page_bytes = 8192
    salts = None if header_bad else (salt_1, salt_2)
    number = committed = behind = 0
    bad = 1 if header_bad else 0
    is_torn = cut = False
    while len(frame := file.read(_FRAME.size + page_bytes)) == _FRAME.size + page_bytes:
        number += 1
        page, pages, *found_salts, sum_1, sum_2 = _FRAME.unpack_from(frame)
        if salts is None and page:
            salts = (found_salts[0], found_salts[1])  # the header is damaged: the first frame names them
        is_ours = page > 0 and tuple(found_salts) == salts
        if not bad:
            sums = _frame_sums(order, frame, sums)
            if is_ours and sums == (sum_1, sum_2):
                if pages:
                    committed = number
                continue
            bad, is_torn = number, is_ours
        elif is_ours:
            behind += 1
            if pages and not cut and _frame_sums(order, frame, sums) == (sum_1, sum_2):
                cut = True
        sums = (sum_1, sum_2)
    if not (cut or is_torn):
        bad = behind = 0  # the run ended there: zeros, or frames of an earlier run
    return Frames(committed, bad, behind, cut, header_bad and cut)


def _frame_sums(order: str, frame: bytes, sums: _Sums) -> _Sums:
    return _checksum(order, frame[_FRAME.size :], _checksum(order, frame[:8], sums))


def _checksum(order: str, data: bytes, sums: _Sums) -> _Sums:
    one, two = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        one = (one + words[at] + two) & _WORD
        two = (two + words[at + 1] + one) & _WORD
    return one, two


WAL_BYTES_MAX = 64 << 20
_WAL_LONG_BYTES = 8 << 20
"""A write-ahead log of this size shows that checkpoints are blocked."""
_WAL_STEP_BYTES = 4 << 20
"""If a reader of older pages blocked the checkpoint, wait until the log has grown by this before retrying."""
WAL_ROOM_BYTES = 512 << 10
"""The first size to which the write-ahead log is extended. Each time it is full, it becomes four times as
long, up to the size at which SQLite checkpoints. It grows in steps because each may delay a commit (about
1 ms a MiB) and a process that writes little needs little.
"""
_SMALL_COMMIT_BYTES = 64 << 10
"""Average size of a commit in the write-ahead log. Above it, extending costs more than the commits gain."""
_BUSY_TIMEOUT_MS = 5000
_TRUNCATE_WAIT_MS = 250
_log = structlog.get_logger(__name__)


class WalCare:
    """The size of the write-ahead log: when it is extended, checkpointed and emptied.

    `fence`: raises if another writer took the directory over.

    `emptying` is called before the file is emptied.
    """

    def __init__(
        self,
        path: str,
        connection: sqlite3.Connection,
        fence: Callable[[], None],
        emptying: Callable[[], None],
    ) -> None:
        self.connection = connection
        self._path = path
        self._fence = fence
        self._emptying = emptying
        self.care_above = self._filled = size_bytes(path)
        """Bytes above which `care` is due, and bytes when `commits` was last reset."""
        self.commits = 0
        """Commits since the write-ahead log had the size `_filled`."""
        self.erasing = False
        """Whether erased data may still be in the file."""

    def erase(self) -> None:
        """A commit has erased data: empty the file, now or as soon as no reader blocks that."""
        self.erasing = True
        self._truncate(_TRUNCATE_WAIT_MS)

    def care(self) -> None:
        """Extend the file, or empty one that has grown because of readers."""
        size = size_bytes(self._path)
        if not self.erasing and size < WAL_BYTES_MAX:
            self._make_room(size)
        elif not self._truncate(_TRUNCATE_WAIT_MS if size >= WAL_BYTES_MAX else 0):
            self.care_above = size + _WAL_STEP_BYTES

    def _make_room(self, size: int) -> None:
        """Extend the write-ahead log of `size` bytes, so that the next commits need not."""
        small = size - self._filled <= self.commits * _SMALL_COMMIT_BYTES
        self._filled, self.commits = size, 0
        if size >= _WAL_LONG_BYTES:
            self.checkpoint("PASSIVE")  # logs what blocks SQLite's own checkpoints
            self.care_above = WAL_BYTES_MAX - 1
            return
        if size >= WAL_CHECKPOINT_BYTES:
            self.care_above = _WAL_LONG_BYTES
            return
        self.care_above = min(max(WAL_ROOM_BYTES, 4 * size), WAL_CHECKPOINT_BYTES)
        if not small:
            return
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self._fence()
            extend(self._path, self.care_above)
        except (OSError, sqlite3.Error) as error:
            # Until the next checkpoint, commits extend the file themselves or report why they cannot.
            self.care_above = WAL_CHECKPOINT_BYTES
            _log.warning("write_ahead_log_not_lengthened", reason=str(error))
        finally:
            with contextlib.suppress(sqlite3.Error):
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    def _truncate(self, wait_ms: int) -> bool:
        """Empty the write-ahead log, waiting up to `wait_ms` for readers of older pages. Returns success."""
        self.connection.execute(f"PRAGMA busy_timeout={wait_ms}")
        try:
            emptied = self.checkpoint("TRUNCATE")
        finally:
            self.connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        if emptied:
            self.erasing = False
            self.care_above = self._filled = self.commits = 0
        return emptied

    def checkpoint(self, mode: str) -> bool:
        """Returns whether the checkpoint completed. A failure costs disk space, never data."""
        if mode == "TRUNCATE":
            self._emptying()
        try:
            busy, pages, done = self.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as error:
            _log.warning("checkpoint_failed", mode=mode, reason=str(error))
            return False
        if busy:
            _log.warning("checkpoint_blocked_by_a_reader", mode=mode, pages=pages, done=done)
        return not busy
