"""The snapshot of one stream from several plug-ins: their states merged by key, all after the same event."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from huahuo.actors.entities.errors import Busy
from huahuo.actors.plugins.actions import SnapshotOf
from huahuo.actors.plugins.calls import Parted

ATTEMPTS_MAX: Final = 8
"""How often all sources are asked until they answer for the same event. New events may come in between."""
_SHIFT: Final = 40
"""The number of a source stands above this many bits of a part's `start`."""


def merged(sources: Sequence[SnapshotOf], head: SnapshotOf) -> SnapshotOf:
    """One snapshot from several sources: theirs if there is one, `head`'s if there is none.

    Of a key that two sources have, clients may take either, so sources should choose keys of their own.
    """
    if len(sources) <= 1:
        return sources[0] if sources else head

    async def snapshot(stream: str) -> tuple[int, bytes | Parted]:
        """Raises Busy: the stream changed too often between the answers."""
        for _ in range(ATTEMPTS_MAX):
            found = await asyncio.gather(*(source(stream) for source in sources))
            seqs = {seq for seq, _ in found}
            if len(seqs) == 1:
                return seqs.pop(), Merged([state for _, state in found])
        raise Busy(f"{stream} changed too often while its snapshot was made")

    return snapshot


class Merged:
    """The members of several JSON objects as one object."""

    __slots__ = ("_states",)

    def __init__(self, states: Sequence[bytes | Parted]) -> None:
        self._states = states

    def pieces(self) -> Iterator[bytes]:
        """See `Parted`."""
        yield b"{"
        before = False
        for state in self._states:
            for piece in _members((state,) if isinstance(state, bytes) else state.pieces()):
                if before and piece.first:
                    yield b","
                yield piece.text
                before = True
        yield b"}"

    def part(self, start: int, bytes_max: int) -> tuple[bytes, int | None]:
        """See `Parted`: the parts of one state after the other."""
        number, inside = start >> _SHIFT, start & ((1 << _SHIFT) - 1)
        state = self._states[number]
        text, following = (state, None) if isinstance(state, bytes) else state.part(inside, bytes_max)
        if following is not None:
            return text, (number << _SHIFT) | following
        return text, (number + 1) << _SHIFT if number + 1 < len(self._states) else None


class _Piece:
    """Text between an object's braces. `first`: it is the first of its object."""

    __slots__ = ("first", "text")

    def __init__(self, text: bytes, *, first: bool) -> None:
        self.text = text
        self.first = first


def _members(pieces: Iterator[bytes] | tuple[bytes]) -> Iterator[_Piece]:
    """An object's text without its braces, so nothing for an empty object."""
    held, first, opened = b"", True, False
    for piece in pieces:
        text = held + piece
        if not opened:
            opened, text = True, text[1:]
        held = text[-1:]
        if text[:-1]:
            yield _Piece(text[:-1], first=first)
            first = False
