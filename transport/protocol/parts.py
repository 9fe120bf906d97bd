"""What is too long for one message, cut into several and put together again (PROTOCOL 12). Pure.

A part is a JSON object like the whole. Put together: objects merge member by member, lists append, and
of anything else the later one counts. So a part that repeats what identifies the whole does no harm.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

type Json = dict[str, Any]

ASSEMBLED_BYTES_MAX = 256 << 20
"""All parts of one message together, as JSON: what a client puts together at most."""


class Parted(Protocol):
    """A JSON object that can be made piece by piece, of one state, however long that takes."""

    def pieces(self) -> Iterator[bytes]:
        """Its text, cut so that each piece takes a millisecond at most to make."""
        ...

    def part(self, start: int, bytes_max: int) -> tuple[bytes, int | None]:
        """An object of about `bytes_max`, and where the next one begins; None: this is the last one.

        The first begins at 0. Put together in order they are all of it.
        """
        ...


class Part(NamedTuple):
    """A part's place among the others. `ONLY` is that of a message that is a whole."""

    number: int
    more: bool

    @property
    def members(self) -> bytes:
        """As members of a JSON object; none for a message that is a whole."""
        if self == ONLY:
            return b""
        return b'"part":%d,"more":true' % self.number if self.more else b'"part":%d' % self.number


ONLY = Part(1, more=False)


class Assembly:
    """Parts of one message as they come in, in order."""

    __slots__ = ("_bytes_max", "_number", "_size_bytes", "whole")

    def __init__(self, bytes_max: int = ASSEMBLED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._number = 0
        self._size_bytes = 0
        self.whole: Json = {}

    def add(self, part: Json, number: int, size_bytes: int) -> bool:
        """Take a part in. False: it does not follow the last one, or all of them are too large."""
        if number == 1:
            self._number = self._size_bytes = 0
            self.whole = {}
        self._size_bytes += size_bytes
        if number != self._number + 1 or self._size_bytes > self._bytes_max:
            return False
        self._number = number
        merge(self.whole, part)
        return True


def merge(whole: Json, part: Json) -> None:
    """Put `part` into `whole`, which may keep pieces of it."""
    for name, value in part.items():
        known = whole.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            merge(known, value)
        elif isinstance(known, list) and isinstance(value, list):
            known += value
        else:
            whole[name] = value
