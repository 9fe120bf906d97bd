"""The size of the write-ahead log: when it is extended, checkpointed and emptied.

SQLite makes the checkpoints (`wal_autocheckpoint`): after each it writes the file from the start again, and
it alone knows how many frames the file holds.
"""

import contextlib
import sqlite3
from collections.abc import Callable

import structlog

from huahuo.eventstore.sqlite import wal
from huahuo.eventstore.sqlite.connecting import WAL_CHECKPOINT_BYTES

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
    """See the module. `fence`: raises if another writer took the directory over.

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
        self.care_above = self._filled = wal.size_bytes(path)
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
        size = wal.size_bytes(self._path)
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
            wal.extend(self._path, self.care_above)
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
