"""Events found in the pages of a log's file, without SQLite's tree of them.

If the head of a page or a page above it is damaged, SQLite reads none of its rows, although most are whole.
Here each page is looked through alone. A row of the table `event` is known by its shape: thirteen columns, of
which the first is empty (it is the row's number) and the last is a link of 32 bytes. The hash chain proves it
later.

Format: https://www.sqlite.org/fileformat2.html#b_tree_pages
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from huahuo.eventstore.sqlite.schema import PAGE_BYTES
from huahuo.eventstore.sqlite.wal_frames import newest_pages

type EventRow = tuple[Any, ...]
"""The thirteen columns of `event`."""

_COLUMNS: Final = 13
_LINK: Final = 76
"""The serial type of 32 bytes."""
TEXTS: Final = frozenset({6, 7, 8})
_BYTES: Final = frozenset({11, 12})
_INT_BYTES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
_HEADS: Final = re.compile(rb"(?=([\x0e-\x28])\x00)")
"""The length of a row's header, and the empty first column."""
_VARINT_BYTES_MAX: Final = 9
_LOCAL_MAX: Final = PAGE_BYTES - 35
_LOCAL_MIN: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
"""How many bytes of a longer row are on its page, by SQLite's rules (1.6)."""


class Pages:
    """The pages of a database, each in its newest committed state.

    Close it before SQLite opens the file: each descriptor of it that is closed drops the process's locks.
    """

    def __init__(self, path: Path) -> None:
        self._database: BinaryIO = path.open("rb")
        try:
            self._frames = newest_pages(path.with_name(f"{path.name}-wal"))
            self._wal: BinaryIO | None = None
            if self._frames:
                self._wal = path.with_name(f"{path.name}-wal").open("rb")
        except BaseException:
            self._database.close()
            raise
        size = self._database.seek(0, 2)
        self.count = max(-(-size // PAGE_BYTES), *self._frames, 0)

    def close(self) -> None:
        """Close the files."""
        self._database.close()
        if self._wal is not None:
            self._wal.close()

    def read(self, number: int) -> bytes:
        """A page, with zeros in place of what is missing."""
        file, at = self._database, (number - 1) * PAGE_BYTES
        if self._wal is not None and number in self._frames:
            file, at = self._wal, self._frames[number]
        file.seek(at)
        return file.read(PAGE_BYTES).ljust(PAGE_BYTES, b"\0")


def find_events(pages: Pages) -> Iterator[EventRow]:
    """Whatever looks like a row of `event`, in the order of the pages. The same one may come twice."""
    for number in range(1, pages.count + 1):
        page = pages.read(number)
        for match in _HEADS.finditer(page):
            row = _row_at(pages, page, match.start())
            if row is not None:
                yield row


def _row_at(pages: Pages, page: bytes, at: int) -> EventRow | None:
    """The row whose header begins at `at`; None if none does."""
    header_bytes = page[at]
    end = at + header_bytes
    if end > PAGE_BYTES or page[end - 1] != _LINK:
        return None
    types: list[int] = []
    place = at + 1
    while place < end and len(types) < _COLUMNS:
        kind, place = _varint(page, place)
        types.append(kind)
    if place != end or len(types) != _COLUMNS:
        return None
    widths = [_width(column, kind) for column, kind in enumerate(types)]
    if min(widths) < 0:
        return None
    position, before = _varint_before(page, at)
    length = header_bytes + sum(widths)
    if position <= 0 or not page.endswith(_as_varint(length), 0, before):
        return None
    payload = _payload(pages, page, at, length)
    return None if payload is None else _values(position, types, widths, payload[header_bytes:])


def _payload(pages: Pages, page: bytes, at: int, length: int) -> bytes | None:
    """The bytes of a row, of which the end may be on pages of its own."""
    if length <= _LOCAL_MAX:
        return page[at : at + length] if at + length <= PAGE_BYTES else None
    local = _LOCAL_MIN + (length - _LOCAL_MIN) % (PAGE_BYTES - 4)
    if local > _LOCAL_MAX:
        local = _LOCAL_MIN
    if at + local + 4 > PAGE_BYTES:
        return None
    parts, left = [page[at : at + local]], length - local
    following = int.from_bytes(page[at + local : at + local + 4])
    while left > 0:
        if not 0 < following <= pages.count:
            return None
        more = pages.read(following)
        following = int.from_bytes(more[:4])
        parts.append(more[4 : 4 + left])
        left -= PAGE_BYTES - 4
    return b"".join(parts)


def _values(position: int, types: list[int], widths: list[int], data: bytes) -> EventRow:
    values: list[Any] = [position]
    at = widths[0]
    for column in range(1, _COLUMNS):
        part = data[at : at + widths[column]]
        at += widths[column]
        if column in TEXTS:
            try:
                values.append(part.decode())
            except UnicodeDecodeError:
                values.append(part)  # a text in which a byte was changed
        elif column in _BYTES:
            values.append(part)
        else:
            values.append(types[column] - 8 if types[column] in (8, 9) else int.from_bytes(part, signed=True))
    return tuple(values)


def _width(column: int, kind: int) -> int:
    """How many bytes a column has, -1 if its type is not that of the column."""
    if column == 0:
        return 0 if kind == 0 else -1
    if column in TEXTS or column in _BYTES:
        is_text = kind % 2 == 1
        return (kind - 12) // 2 if kind >= 12 and is_text == (column in TEXTS) else -1  # noqa: PLR2004  the format
    return _INT_BYTES.get(kind, -1)


def _varint(page: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where the next one begins."""
    value = 0
    for count in range(_VARINT_BYTES_MAX):
        if at >= len(page):
            break
        byte = page[at]
        at += 1
        if count == _VARINT_BYTES_MAX - 1:
            return (value << 8) | byte, at
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:  # noqa: PLR2004  the last byte of a number
            break
    return value, at


def _varint_before(page: bytes, end: int) -> tuple[int, int]:
    """The number that ends before `end`, and where it begins. In front of it another number ends."""
    start = end - 1
    while start > 0 and page[start - 1] >= 0x80 and end - start < _VARINT_BYTES_MAX:  # noqa: PLR2004
        start -= 1
    if start < 0:
        return 0, 0
    value, after = _varint(page, start)
    return (value, start) if after == end else (0, start)


def _as_varint(value: int) -> bytes:
    """A number of less than 2^56."""
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append((value & 0x7F) | 0x80)
    return bytes(reversed(parts))
