"""Texts of one client that wait, in one piece of bytes. Pure.

As a frame of the library, a short one takes five times as much, in small objects: of the memory for those
the interpreter gives little back to the system.
"""

from collections.abc import Iterable
from typing import Final

_SIZE_BYTES: Final = 2
TEXT_BYTES_MAX: Final = (1 << 8 * _SIZE_BYTES) - 1
"""Of one text."""


class PackedTexts:
    """See the module. First in, first out."""

    __slots__ = ("_at", "_packed", "count")

    def __init__(self) -> None:
        self.count = 0
        self._packed = b""
        self._at = 0  # where the first text's size begins

    def add(self, texts: Iterable[bytes]) -> None:
        """Add at the end. None of them is longer than `TEXT_BYTES_MAX`."""
        pieces = [self._packed[self._at :]]
        for text in texts:
            pieces += (len(text).to_bytes(_SIZE_BYTES), text)
            self.count += 1
        self._packed, self._at = b"".join(pieces), 0

    def take(self) -> bytes:
        """Take the first. Raises IndexError: there is none."""
        if not self.count:
            raise IndexError("no text waits")
        self.count -= 1
        begin = self._at + _SIZE_BYTES
        self._at = begin + int.from_bytes(self._packed[self._at : begin])
        return self._packed[begin : self._at]
