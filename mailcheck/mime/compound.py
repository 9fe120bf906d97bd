"""Compound files (MS-CFB): a file system in a file, in which Outlook keeps a mail (`.msg`). Pure.

Files are hostile: chains may be circles, sizes may lie, streams may share sectors. Each sector of a chain is
read once, and all streams together are no longer than the file.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Final

MAGIC: Final = bytes.fromhex("d0cf11e0a1b11ae1")
ENTRIES_MAX: Final = 10_000
STORAGES_DEEP_MAX: Final = 16
"""What is in more storages is left out: the paths of deep ones would take the square of their number."""
_HEADER: Final = struct.Struct("<30x2H14xI4x5I")
_ENTRY: Final = struct.Struct("<64sHBx3I36xIQ")
_ENTRY_BYTES: Final = 128
_FREE: Final = 0xFFFFFFFA
"""Numbers from here on are no sectors."""
_STORAGE, _STREAM, _ROOT = 1, 2, 5


class NotCompound(ValueError):  # noqa: N818  a fact about the file
    """The bytes are no compound file, or a broken one."""


class Compound:
    """The streams of a file, by their path: names of storages and the stream, with `/` between them."""

    def __init__(self, data: bytes) -> None:
        """Read the directory. Raises NotCompound."""
        try:
            self._open(data)
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise NotCompound(str(error)) from None

    def below(self, beginning: str) -> list[str]:
        """The paths of the streams that begin so, in order."""
        those = islice(self._names, bisect_left(self._names, beginning), None)
        return list(takewhile(lambda name: name.startswith(beginning), those))

    def read(self, path: str) -> bytes:
        """A stream, empty if there is none. To be read once. Raises NotCompound: it has another's sectors."""
        start, size = self._streams.get(path, (_FREE, 0))
        if size < self._mini_below:
            found = self._chain(start, self._mini_fat, self._mini_bytes, self._mini, 0, size)
        else:
            found = self._sectors(start, size)
        self._left -= len(found)
        if self._left < 0:
            raise NotCompound("streams that share sectors")
        return found

    def _open(self, data: bytes) -> None:
        if not data.startswith(MAGIC):
            raise NotCompound("another kind of file")
        shift, mini_shift, directory, self._mini_below, first_mini, _, first_more, _ = _HEADER.unpack_from(
            data
        )
        if not (7 <= shift <= 16 and 2 <= mini_shift <= shift):  # noqa: PLR2004  512 and 4,096 bytes are usual
            raise NotCompound("odd sectors")
        self._data, self._bytes, self._mini_bytes = data, 1 << shift, 1 << mini_shift
        self._left = len(data)
        places = list(struct.unpack_from("<109I", data, 76))
        seen: set[int] = set()
        while first_more < _FREE and first_more not in seen:
            seen.add(first_more)
            more = self._numbers(self._sector(first_more))
            places += more[:-1]
            first_more = more[-1]
        self._fat: list[int] = []
        for place in dict.fromkeys(place for place in places if place < _FREE):
            self._fat += self._numbers(self._sector(place))
        self._mini_fat = self._numbers(self._sectors(first_mini))
        entries = self._sectors(directory)
        self._mini = b""
        self._streams = dict(self._walk(entries))
        self._names = sorted(self._streams)

    def _walk(self, entries: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
        count = min(len(entries) // _ENTRY_BYTES, ENTRIES_MAX)
        root = _ENTRY.unpack_from(entries, 0)
        self._mini = self._sectors(root[6], root[7] & 0xFFFFFFFF)
        todo, seen = [(root[5], "", 0)], {0}
        while todo:
            number, parent, depth = todo.pop()
            if number >= count or number in seen:
                continue
            seen.add(number)
            name, length, kind, left, right, child, start, size = _ENTRY.unpack_from(
                entries, number * _ENTRY_BYTES
            )
            path = parent + name[: max(0, min(length, 64) - 2)].decode("utf-16-le", "replace")
            todo += [(left, parent, depth), (right, parent, depth)]
            if kind == _STREAM:
                yield path, (start, size & 0xFFFFFFFF)
            elif kind == _STORAGE and depth < STORAGES_DEEP_MAX:
                todo.append((child, f"{path}/", depth + 1))

    def _sectors(self, start: int, size: int | None = None) -> bytes:
        return self._chain(
            start, self._fat, self._bytes, self._data, 1, len(self._data) if size is None else size
        )

    @staticmethod
    def _chain(start: int, table: list[int], each: int, data: bytes, skipped: int, size: int) -> bytes:
        """The first `size` bytes of a chain; it ends where the data does."""
        found: list[bytes] = []
        seen: set[int] = set()
        while size > 0 and start < len(table) and start not in seen:
            seen.add(start)
            at = (start + skipped) * each
            piece = data[at : at + min(each, size)]
            if not piece:
                break
            found.append(piece)
            size -= len(piece)
            start = table[start]
        return b"".join(found)

    def _sector(self, number: int) -> bytes:
        at = (number + 1) * self._bytes
        return self._data[at : at + self._bytes]

    @staticmethod
    def _numbers(sector: bytes) -> list[int]:
        return list(struct.unpack(f"<{len(sector) // 4}I", sector[: len(sector) // 4 * 4]))
