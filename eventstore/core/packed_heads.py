"""Heads of streams that rest, as an engine may keep them: packed, without an object for each."""

from collections.abc import Iterator
from typing import Protocol

from huahuo.eventstore.model import Head

UNPACKED_MAX = 65_536
"""At most this many packed streams have their head as an object as well: 20 MB."""


class Packed(Protocol):
    """Heads that are not entries of `Place.heads`, or are not as new as those."""

    def head(self, stream: str) -> Head | None:
        """The head of `stream`, without its link; None if it is not here."""
        ...

    def put(self, stream: str, head: Head) -> bool:
        """Hold `head` for a stream that is here. False if it cannot be packed: then nothing changes."""
        ...

    def drop(self, stream: str) -> None:
        """Forget the head of `stream`, if it is here."""
        ...

    def streams(self, prefix: str) -> Iterator[str]:
        """The streams that begin with `prefix` and have an event."""
        ...

    def __len__(self) -> int: ...


class NothingPacked:
    """Implements `Packed` for engines that pack none."""

    def head(self, _stream: str) -> Head | None:
        """See `Packed`."""
        return None

    def put(self, _stream: str, _head: Head) -> bool:
        """See `Packed`."""
        return False

    def drop(self, stream: str) -> None:
        """See `Packed`."""

    def streams(self, _prefix: str) -> Iterator[str]:
        """See `Packed`."""
        return iter(())

    def __len__(self) -> int:
        return 0
