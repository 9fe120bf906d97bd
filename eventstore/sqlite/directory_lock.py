"""One writing process per directory: its lock, and whether anybody else wrote or replaced the files.

While the log is open, the side file holds the process id; after a clean close, the log's end. So the next
opening knows whether to look for damage, and notices if the end of the log has gone missing.

Rows outside the hash chain that somebody deletes by SQL leave nothing that could fail a check. But the
file was written then, and nobody except the log's writer does that. A clean close notes the size and the
time of the file. A killed service leaves frames in the write-ahead log, which another program empties when
it closes the file, also if it only read; the lock file says whether there must be some.

A file that was unlinked or replaced can still be written through its descriptor, and is lost when the
process ends. `Files` uses `stat` only: closing another descriptor of the database would drop SQLite's
locks. Deleting, moving or replacing a file changes its directory's time; while that stays the same, one
`stat` is enough. A time is trusted only after it was seen often, since two changes within one tick of the
kernel's clock share it.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec
import structlog

from huahuo.eventstore.errors import Detached, InUse
from huahuo.eventstore.sqlite.connections import unusable
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.wal import size_bytes

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


LOCK = "writer.lock"
_BYTES_MAX = 4096
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_log = structlog.get_logger(__name__)


class Left(msgspec.Struct, frozen=True):
    """How a directory was left: still held by `pid` (-1: unknown), or closed at `position` (`pid` 0).

    `inode` is that of the lock file itself: in a copy of the directory it is another one. `boot` is the id
    of the machine's boot, "" if it is unknown. `counters` is the checksum of all counters, "" if it was not
    noted. `database`: the file of the log, None if it was not noted. The lock file gets the same time, so
    that a copy, and a backup that was put back over both files, is known by another one. `wal` is 1 while a
    process that is killed leaves frames in the write-ahead log; 0 and 1 are equally long, so that no kill
    finds one half written.
    """

    pid: int = 0
    log: str = ""
    position: int = 0
    chain: str = ""
    inode: int = 0
    boot: str = ""
    counters: str = ""
    database: Stamp | None = None
    wal: int = 0


class DirectoryLock:
    """An exclusive lock on a directory, held until `leave` or the end of the process."""

    def __init__(self, directory: Path) -> None:
        self._file = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._read().pid
            os.close(self._file)
            if holder == os.getpid():
                raise InUse(
                    f"{directory} is in use by process {holder}, which is this one: by another service of it,"
                    " or by one whose log is still closing after its stop. Or it is a process with the same"
                    " number in another container: only one container may use a directory at a time"
                ) from None
            by = f"process {holder}" if holder > 0 else "another process"
            raise InUse(
                f"{directory} is in use by {by}: only one process writes a log."
                " Stop that process, or choose another directory"
            ) from None
        except BaseException:
            os.close(self._file)
            raise
        self.left = self._with_own_stamp(self._read())
        """How the last holder left the directory."""
        self._database = directory / DATABASE
        self._wal = directory / f"{DATABASE}-wal"
        self._trusted = True
        self._holds = False
        self._noted = self.left
        self.wal_noted = bool(self.left.wal)
        """Whether the note says that the write-ahead log holds frames."""
        self.written_before = self._written()
        """What another program did to the database since then, "" if nothing is known."""
        if not (self.written_before or self.lost_power) and self._database.exists():
            self.note_wal(frames=False)  # from now on it may be emptied, and this process may be killed, too

    @property
    def lost_power(self) -> bool:
        """Whether the machine may have stopped under the last holder, and not only its process.

        What a killed process wrote stays in the kernel's cache, whole and in order. The state of the disk
        only matters once that cache is gone.
        """
        left = self.left
        if not left.pid:
            return False
        return not left.boot or left.boot != _boot_id() or left.inode != os.fstat(self._file).st_ino

    def hold(self) -> None:
        """Note that this process has the log open: until `leave`, a stop is unclean."""
        self._write(Left(pid=os.getpid(), boot=_boot_id(), wal=int(self._has_frames())))
        self._holds = True

    def distrust(self) -> None:
        """Note that the disk failed: after an unclean stop the next opening looks for damage.

        A kernel that could not write a page may drop it, so its cache is no longer proof of anything.
        """
        if self._trusted:
            try:
                self._write(Left(pid=os.getpid()))
            except OSError as error:  # tried again at the next fault
                _log.warning("lock_not_noted", reason=error.strerror)
            else:
                self._trusted = False

    def note_wal(self, *, frames: bool) -> None:
        """Note whether the write-ahead log holds frames. What fails is not noted: then less is known later.

        Call it before the file is emptied, and after a commit. It is not synced, because only a process that
        is killed needs the note, and what it wrote is in the kernel's cache.
        """
        if frames != self.wal_noted:
            with contextlib.suppress(OSError):
                self._write(msgspec.structs.replace(self._noted, wal=int(frames)), durable=False)

    def leave(self, left: Left | None) -> None:
        """Release the lock; with `left`, note a clean close. If the note fails, the close is unclean.

        Call it when the database is closed.
        """
        try:
            noted, database = self.left.database, stamp_of(self._database)
            ours = noted is not None and noted != database and not (self._holds or self.written_before)
            if left is not None or ours:
                if self._wal.exists():  # somebody reads it still, whose close may write the database
                    database = None
                self._write(msgspec.structs.replace(left or self.left, database=database))
            elif self._holds or self.wal_noted != bool(self.left.wal):
                self.note_wal(frames=self._has_frames())
        except OSError as error:
            _log.warning("unclean_close", reason=error.strerror)
        finally:
            os.close(self._file)

    def _written(self) -> str:
        left = self.left
        if was_written(left.database, stamp_of(self._database)):
            return WHILE_CLOSED
        if left.wal and not self.lost_power and not self._has_frames() and self._database.exists():
            return AFTER_A_KILL
        return ""

    def _has_frames(self) -> bool:
        return size_bytes(str(self._wal)) > 0

    def _read(self) -> Left:
        return _left_in(os.pread(self._file, _BYTES_MAX, 0))

    def _with_own_stamp(self, left: Left) -> Left:
        """Without the stamp of the database if it was not this very lock file that got it."""
        stamp = left.database
        if stamp is None or stamp.mtime_ns == os.fstat(self._file).st_mtime_ns:
            return left
        return msgspec.structs.replace(left, database=None)

    def _write(self, left: Left, *, durable: bool = True) -> None:
        left = msgspec.structs.replace(left, inode=os.fstat(self._file).st_ino)
        data = msgspec.json.encode(left)
        # Overwritten, then cut: an empty file would say that the directory was never used.
        os.pwrite(self._file, data, 0)
        os.ftruncate(self._file, len(data))
        if (stamp := left.database) is not None:
            with contextlib.suppress(OSError):  # only the file's owner may
                os.utime(self._file, ns=(stamp.mtime_ns, stamp.mtime_ns))
        if durable:
            os.fsync(self._file)
        self._noted, self.wal_noted = left, bool(left.wal)


def lock_to_change(directory: Path) -> DirectoryLock:
    """The lock on a directory that is to be changed by a command.

    Raises InUse, or EventStoreError: the directory cannot be written.
    """
    try:
        return DirectoryLock(directory)
    except OSError as error:
        raise unusable(error, directory) from None


def is_original(directory: Path) -> bool:
    """Whether a log was written in this very directory, so that it is not a copy that was only read."""
    try:
        with (directory / LOCK).open("rb") as file:
            return _left_in(file.read(_BYTES_MAX)).inode == os.fstat(file.fileno()).st_ino
    except OSError:
        return False


def left_of(directory: Path) -> Left:
    """How a directory, or the one it was copied from, was left; unknown (`pid` -1) without a note."""
    try:
        return _left_in((directory / LOCK).read_bytes()[:_BYTES_MAX])
    except OSError:
        return Left(pid=-1)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _left_in(data: bytes) -> Left:
    try:
        return msgspec.json.decode(data, type=Left) if data else Left()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Left(pid=-1)


_TRUSTED_AFTER = 64
"""64 commits, each with a sync, last longer than a tick of the kernel's clock (4 ms at most)."""

type Identity = tuple[int, int]


class Files:
    """The files at `paths` as they were when last noted."""

    def __init__(self, *paths: str) -> None:
        self._known: dict[str, Identity] = {}
        self._directory = os.path.dirname(paths[0]) or "."  # noqa: PTH120  as below
        self.lost = ""
        """Which file is not ours any more, and what to do: nothing is written then. "" while all are."""
        self._seen: tuple[int, int, int] | None = None
        self._times = 0
        self.may_have_changed = True
        """As the last `must_be_ours` saw it."""
        self.note(*paths)

    def note(self, *paths: str) -> None:
        """Remember the files that are at `paths` now. Raises OSError if one is missing."""
        for path in paths:
            found = os.stat(path)  # noqa: PTH116  as below
            self._known[path] = (found.st_dev, found.st_ino)

    def must_be_ours(self, *but: str) -> None:
        """Raise Detached, now and on every later commit, if a path does not lead to our file any more.

        `but`: the paths to leave out. Without any, it is quick enough for every commit.
        """
        path = self.changed(*but) if but or self._may_have_changed() else None
        if path is not None:
            self.lost = (
                f"{path} was deleted, moved or replaced while the log was open: nothing is written any"
                " more; stop the service, then put the file back or restore a backup; a node of several"
                " starts with its keys, `node.name` and an empty directory, and fetches a copy"
            )
            _log.error("log_file_gone", path=path)
            raise Detached(self.lost)

    def _may_have_changed(self) -> bool:
        """Whether the directory's time moved not long ago: else the `stat` of each path is skipped."""
        try:
            found = os.stat(self._directory)  # noqa: PTH116
        except OSError:
            return True
        seen = (found.st_dev, found.st_ino, found.st_mtime_ns)
        self._times = self._times + 1 if seen == self._seen else 0
        self._seen = seen
        self.may_have_changed = self._times <= _TRUSTED_AFTER
        return self.may_have_changed

    def changed(self, *but: str) -> str | None:
        """The first path, except those in `but`, at which there is another file or none."""
        for path, known in self._known.items():
            if path in but:
                continue
            try:
                found = os.stat(path)  # noqa: PTH116  a path object costs more than the call
            except OSError:
                return path
            if (found.st_dev, found.st_ino) != known:
                return path
        return None
