"""A file that is made once: it is there with all of its bytes, or not at all."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
"""What a file system says that has no hard links."""


def make_file(path: Path, data: bytes) -> None:
    """Make `path`, with mode 0600 and durably. Two who try at once get one file, of one of them.

    On a full disk, and after a crash, there is no file, so that it is made by the next try.

    Raises:
        FileExistsError: there is one. OSError: it cannot be made.
    """
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    descriptor, unfinished = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _name(Path(unfinished), path)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names of the files in a folder durable. Raises OSError."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _name(unfinished: Path, path: Path) -> None:
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        unfinished.rename(path)
