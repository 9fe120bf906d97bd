"""The folder in which a backup is made until it is whole.

A service that stops kills the process that makes one, and what lies there may be twice as large as the log.
So the next backup removes the folders of processes that are gone. The process that makes a backup holds a
lock on its folder.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PREFIX: Final = "unfinished-"


@contextmanager
def staged(near: Path) -> Iterator[Path]:
    """A new folder in `near`, removed at the end. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=near) as made:
        lock = os.open(made, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield Path(made)
        finally:
            os.close(lock)


def sweep(near: Path) -> None:
    """Remove such folders in `near` that no process holds. Where locks are not known, they stay."""
    for left in near.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # it has gone meanwhile, or is none
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
        except OSError:
            continue  # a backup is being made there
        finally:
            os.close(lock)
