"""A log that is put into a directory is there under its new id, or it is not there at all.

DIR/restoring/    where it is made; a process that was killed leaves it, and the next one begins anew
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.directory_lock import DirectoryLock, left_of
from huahuo.eventstore.sqlite.mark import MARK
from huahuo.eventstore.sqlite.schema import DATABASE

_STAGED: Final = "restoring"
_BESIDE: Final = (f"{DATABASE}-wal", f"{DATABASE}-journal")
"""What SQLite reads into a database that it finds beside it, whichever one they were written for."""


@contextlib.contextmanager
def placing(directory: Path, source: Path) -> Iterator[Path]:
    """A folder to make a log in. At the end of the block, when it is closed, it is put into `directory`.

    `source`: what it is made of. If the block raises, nothing is put there.
    Nobody else can open a log in `directory` meanwhile.

    Raises:
        InUse: somebody has a log in `directory` open.
        EventStoreError: there is a log already, or what one left; the source lies in the folder where it is
            made; or the directory cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DirectoryLock(directory)
    except OSError as error:
        raise EventStoreError(f"cannot write into {directory}: {error.strerror}") from None
    staged, left = directory / _STAGED, None
    try:
        _must_be_free(directory, staged, source)
        shutil.rmtree(staged, ignore_errors=True)
        try:
            yield staged
            if unfolded := _beside(staged):
                raise EventStoreError(f"cannot restore into {directory}: {unfolded} is not empty at its end")
            left = left_of(staged)
            _move(staged, directory)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    finally:
        lock.leave(left)


def _must_be_free(directory: Path, staged: Path, source: Path) -> None:
    if (directory / DATABASE).exists():
        raise EventStoreError(f"there is a log in {directory} already: restore into another directory")
    if left_over := _beside(directory):
        raise EventStoreError(
            f"{left_over} in {directory} is of a log that is not there any more, and would be read into"
            " this one: move it away, or restore into another directory"
        )
    if staged.is_symlink() or (staged.exists() and not staged.is_dir()):
        raise EventStoreError(f"{staged} is in the way: a restore makes a folder of that name. Move it away")
    if (directory / MARK).is_dir():
        raise EventStoreError(f"{directory / MARK} is a directory, and a file belongs there: move it away")
    if source.resolve().is_relative_to(staged.resolve()):
        raise EventStoreError(f"{source} is where a restore works, which empties it: move it away first")


def _beside(directory: Path) -> str:
    """The name of such a file that holds something, "" if there is none."""
    return next((name for name in _BESIDE if _size(directory / name)), "")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _move(staged: Path, directory: Path) -> None:
    """The log first: the mark of another log, which an earlier one left, is passed over beside it."""
    try:
        for name in (DATABASE, MARK):
            (staged / name).rename(directory / name)
        folder = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise EventStoreError(f"cannot restore into {directory}: {error.strerror}") from None
