"""Long messages, cut into parts and put together again (PROTOCOL 12). Pure.

A part is a JSON object like the whole. To put parts together, merge objects member by member and append
lists. Of other values, the later one replaces the earlier one, so a part may repeat the members that
identify the whole.
"""

from typing import Any, NamedTuple

type Json = dict[str, Any]

ASSEMBLED_BYTES_MAX = 256 << 20
"""The bound on one message that a client puts together: all its parts as JSON."""


class Part(NamedTuple):
    """A part's place among the parts of a message. `ONLY` marks a message that is not cut."""

    number: int
    more: bool

    @property
    def members(self) -> bytes:
        """The place as members of a JSON object; none for a message that is not cut."""
        if self == ONLY:
            return b""
        return b'"part":%d,"more":true' % self.number if self.more else b'"part":%d' % self.number


ONLY = Part(1, more=False)


class Assembly:
    """Puts the parts of one message together, in order."""

    __slots__ = ("_bytes_max", "_number", "_size_bytes", "whole")

    def __init__(self, bytes_max: int = ASSEMBLED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._number = 0
        self._size_bytes = 0
        self.whole: Json = {}

    def add(self, part: Json, number: int, size_bytes: int) -> bool:
        """Add a part. False: it does not follow the last part, or all parts together are too large."""
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
    """Merge `part` into `whole`, which may then share objects with `part`."""
    for name, value in part.items():
        known = whole.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            merge(known, value)
        elif isinstance(known, list) and isinstance(value, list):
            known += value
        else:
            whole[name] = value
