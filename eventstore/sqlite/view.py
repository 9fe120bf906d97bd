"""Reading a log without writing to it: in parallel with a running service, or from a copy of its directory.

For audit and replay. The files of a live directory are read in place, in short transactions. A directory
without a writer is not changed either: its files are copied to a private temporary directory first, because
SQLite would create files next to them.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.core.storage_port import Loaded
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.executor import Executor, ThreadExecutor
from huahuo.eventstore.sqlite.connections import FAULTS, connect_reader, unusable
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.mark import MARK, missing_from
from huahuo.eventstore.sqlite.names import Names
from huahuo.eventstore.sqlite.reads import SqliteReads
from huahuo.eventstore.sqlite.schema import DATABASE, get_meta
from huahuo.eventstore.sqlite.unindexed import Unindexed


class SqliteView(LogReader):
    """The reading half of a `Log`: no append, no secrets. `live` says whether a writer has it open."""

    def __init__(
        self,
        reads: SqliteReads,
        loaded: Loaded,
        executor: Executor,
        path: Path,
        copy: tempfile.TemporaryDirectory[str] | None,
        missing: str | None = None,
    ) -> None:
        super().__init__(loaded.log_id, reads, executor, lambda: self._here)
        self.live = copy is None
        self.path = path
        """The database file that is read."""
        self.missing = missing
        """What is missing from a log without a writer, by its mark; None if nothing is known to be."""
        self._here = loaded.place()
        self._files = reads
        self._executor = executor
        self._copy = copy

    @classmethod
    async def open(cls, directory: Path, beside: Path | None = None) -> Self:
        """Open the log in `directory`, which may be in use and may be read-only.

        `beside`: where a copy of the files is made, if it needs one; else in the system's folder for those.

        Raises:
            EventStoreError: there is no log, or it cannot be read.
        """
        executor = ThreadExecutor(1, "log-view")
        try:
            reads, loaded, copy, missing = await executor.run(lambda: _open(directory, beside))
        except BaseException:
            executor.close()
            raise
        folder = directory if copy is None else Path(copy.name)
        return cls(reads, loaded, executor, folder / DATABASE, copy, missing)

    @classmethod
    async def of_file(cls, path: Path) -> Self:
        """Open the database file `path` in place; no other process may use it. Raises as `open`."""
        executor = ThreadExecutor(1, "log-view")
        try:
            reads, loaded = await executor.run(lambda: _load(path))
        except BaseException:
            executor.close()
            raise
        view = cls(reads, loaded, executor, path, None)
        view.live = False
        return view

    async def refresh(self) -> bool:
        """Read the present end of a live log; returns whether it moved."""
        loaded = await self._read(self._files.load)
        moved = loaded.position != self._here.position
        self._here = loaded.place()
        return moved

    async def close(self) -> None:
        """Close the files. Idempotent."""
        if self._stopped:
            return
        await self._stop_reading()
        self._files.close()
        self._executor.close()
        if self._copy is not None:
            self._copy.cleanup()


def _open(
    directory: Path, beside: Path | None
) -> tuple[SqliteReads, Loaded, tempfile.TemporaryDirectory[str] | None, str | None]:
    if not (directory / DATABASE).is_file():
        raise EventStoreError(f"there is no log in {directory}")
    try:
        copy = _copied(directory, beside)
    except OSError as error:
        raise _unreadable(directory, beside, error) from error
    folder = directory if copy is None else Path(copy.name)
    try:
        missing = None if copy is None else missing_from(folder)
        reads, loaded = _load(folder / DATABASE)
    except BaseException:
        if copy is not None:
            copy.cleanup()
        raise
    return reads, loaded, copy, missing


def _load(path: Path) -> tuple[SqliteReads, Loaded]:
    reads = SqliteReads(path, Names(), Unindexed())
    try:
        return reads, reads.load()
    except BaseException:
        reads.close()
        raise


def _copied(directory: Path, beside: Path | None) -> tempfile.TemporaryDirectory[str] | None:
    """A private copy of the files, None if a writer has them open. No writer can start during the copy."""
    try:
        lock = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return _copy(directory, beside)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    else:
        return _copy(directory, beside)
    finally:
        os.close(lock)


def _copy(directory: Path, beside: Path | None) -> tempfile.TemporaryDirectory[str]:
    if beside is not None:
        beside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy = tempfile.TemporaryDirectory(prefix="huahuo-view-", dir=beside and beside.parent)
    try:
        for name in (DATABASE, f"{DATABASE}-wal", MARK):
            if (directory / name).exists():
                shutil.copyfile(directory / name, Path(copy.name) / name)
    except BaseException:
        copy.cleanup()
        raise
    return copy


def _unreadable(directory: Path, beside: Path | None, error: OSError) -> EventStoreError:
    if error.errno != errno.ENOSPC:
        return unusable(error, directory)
    if beside is not None:
        return EventStoreError(
            f"{beside.parent} has no room for two copies of {directory}: name another target"
        )
    there = tempfile.gettempdir()
    return EventStoreError(
        f"{directory} is read from a copy, and {there} has no room for it: let TMPDIR name another directory"
    )


def read_single(path: Path, key: str) -> bytes | None:
    """A single value of the log whose database is `path`. None if it has none, or none that can be read."""
    with (
        contextlib.suppress(EventStoreError, *FAULTS),
        contextlib.closing(connect_reader(path)) as connection,
    ):
        return get_meta(connection, key)
    return None
