"""The file of SQLite's write-ahead log, seen from outside: its size, and room written ahead of its frames.

If a file grew, a sync must also write its new size; if it was overwritten, only its content. SQLite makes the
file exactly as long as what it has written. So zeros are written after its end. No frame is ever read from
them: a frame names a page above 0 and repeats the salts of the file's header, and a header of zeros lacks the
magic number.
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
