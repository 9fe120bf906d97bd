"""The file of SQLite's write-ahead log, seen from outside: its size, and room written ahead of its frames.

A sync of a file that grew has to write its new size too; one that is overwritten only its content. SQLite
makes the file as long as what it has written, and never longer. So zeros are put behind its end: no frame
is ever read from them, for a frame names a page above 0 and repeats the salts of the file's header, and a
header of zeros lacks the number that begins one.
"""

import os

_ZEROS = bytes(256 << 10)


def size_bytes(path: str) -> int:
    """How long the file is; 0 if there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116  asked after every commit: a path object costs
    except OSError:
        return 0


def extend(path: str, to_bytes: int) -> None:
    """Write zeros from the end of the file up to `to_bytes`, and make them durable.

    Only while holding SQLite's write lock: another writer could put its frames where this saw the end.
    Written, not reserved: the first write into reserved room costs as much as growing. Closing the file
    is harmless, since SQLite locks the database and the index of the log, never the log.

    Raises:
        OSError: no room, say; what was taken of it is given back.
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
