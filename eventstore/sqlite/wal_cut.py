"""Whether somebody cut the write-ahead log of an open database: it is shorter than the frames in it.

SQLite does not notice. It goes on writing behind the hole, and its next checkpoint copies zeros from there
into the database, which then is none any more. So before each commit the length is looked at, and nothing is
written to a file that was cut. A file may well become shorter in order: by a checkpoint that empties it, of
any program, or after a long one. Then the header of the wal-index says how many frames it has.
"""

import os
import struct

from huahuo.eventstore.sqlite.wal import size_bytes

_INDEX = struct.Struct("=14xHI28x")
"""Of 48 bytes, in the machine's order: the size of a page, and the number of the last frame. The header
stands there twice, one copy behind the other: <https://sqlite.org/walformat.html#the_wal_index_header>."""
_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_PAGE_OF_64_KIB = 1
"""What the index says for a size that its field has no room for."""


class WalLength:
    """See the module. `path`: of the database."""

    def __init__(self, path: str) -> None:
        self._wal, self._index = f"{path}-wal", f"{path}-shm"
        self._seen = 0
        self._files: list[int] = []

    def is_cut(self) -> bool:
        """One `stat` as long as the file has not become shorter."""
        size = size_bytes(self._wal)
        if size < self._seen and size < self._frames_bytes():
            return True
        self._seen = size
        return False

    def close(self) -> None:
        """Call it when no connection of this process has the database open any more."""
        for file in self._files:
            os.close(file)
        self._files.clear()

    def _frames_bytes(self) -> int:
        """How long a file with all frames is; 0 where that can't be told."""
        try:
            # It stays open: to close any descriptor of this file would drop the locks of all connections.
            file = os.open(self._index, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return 0
        self._files.append(file)
        found = os.pread(file, 2 * _INDEX.size, 0)
        first, second = found[: _INDEX.size], found[_INDEX.size :]
        if first != second or len(first) < _INDEX.size:  # another program is writing it
            return 0
        page_bytes, frames = _INDEX.unpack(first)
        if page_bytes == _PAGE_OF_64_KIB:
            page_bytes = 1 << 16
        return _HEADER_BYTES + frames * (_FRAME_HEADER_BYTES + page_bytes) if frames else 0
