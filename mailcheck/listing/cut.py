"""All rows as one JSON object, whole or in parts (PROTOCOL 2, 6). Pure.

A row is immutable and is replaced as a whole, so a tuple of rows is a consistent cut.
"""

from collections.abc import Iterator, Sequence
from itertools import batched

import msgspec

from huahuo.mailcheck.replies import EmailsList
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.row import Row

_SLICE_ROWS = 256
_PIECE_ROWS = 1_024
"""Encoding this many rows takes half a millisecond."""


class RowsCut:
    """A JSON object with a list of rows in it: `head`, the rows, `tail`. See `actors.plugins.calls`."""

    __slots__ = ("_head", "_rows", "_tail")

    def __init__(self, head: bytes, rows: Sequence[Row], tail: bytes) -> None:
        self._head = head
        self._rows = rows
        self._tail = tail

    def pieces(self) -> Iterator[bytes]:
        """See `Parted`."""
        opened = self._head
        for some in batched(self._rows, _PIECE_ROWS):
            yield opened + msgspec.json.encode(some)[1:-1]
            opened = b","
        yield self._tail if self._rows else opened + self._tail

    def part(self, start: int, bytes_max: int) -> tuple[bytes, int | None]:
        """See `Parted`. The part ends with the first slice of rows that reaches `bytes_max`."""
        rows, encoded, size = self._rows, [], 0
        while start < len(rows) and size < bytes_max:
            some = rows[start : start + _SLICE_ROWS]
            encoded.append(msgspec.json.encode(some)[1:-1])
            size += len(encoded[-1]) + 1
            start += len(some)
        return b"%b%b%b" % (self._head, b",".join(encoded), self._tail), start if start < len(rows) else None


def snapshot_of(state: Roster) -> RowsCut:
    """The state of a snapshot of `user/<id>` (PROTOCOL 2)."""
    return RowsCut(b'{"emails":[', state.cut(), b"]}")


def list_of(state: Roster, stream: str, seq: int) -> RowsCut:
    """The `emails_list` of all rows: a consistent cut."""
    whole = msgspec.json.encode(EmailsList(msgspec.Raw(b"[]"), stream, seq))
    head, tail = whole.split(b"[]", 1)
    return RowsCut(head + b"[", state.cut(), b"]" + tail)
