"""Long answers and states that the owner keeps while a worker fetches them part by part."""

from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from typing import Final

from huahuo.actors.entities.errors import Busy
from huahuo.actors.plugins.calls import Parted
from huahuo.transport.server.turns import Turns

KEPT_MAX: Final = 1024
"""Of one worker. The oldest is forgotten, and its client is told to ask again."""
_PIECES_BYTES: Final = 256 << 10


class _Kept:
    __slots__ = ("parted", "pieces", "user")

    def __init__(self, parted: Parted, user: str) -> None:
        self.parted = parted
        self.user = user
        self.pieces: Iterator[bytes] | None = None


class PartsKept:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._made = 0
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, parted: Parted, user: str) -> int:
        """Keep it until `release`; returns its number. `user` is charged for its parts."""
        self._made += 1
        self._kept[self._made] = _Kept(parted, user)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return self._made

    def release(self, number: int) -> None:
        """It is not needed any more."""
        self._kept.pop(number, None)

    def clear(self) -> None:
        """The worker is gone."""
        self._kept.clear()

    async def part(self, number: int, start: int, bytes_max: int) -> tuple[bytes, int | None]:
        """See `Parted.part`. Raises Busy: it was forgotten."""
        kept = self._of(number)
        return await self._turns.slice(kept.user, partial(kept.parted.part, start, bytes_max))

    async def piece(self, number: int) -> bytes:
        """The next bytes of the whole, empty at the end. Raises Busy: it was forgotten."""
        kept = self._of(number)
        if kept.pieces is None:
            kept.pieces = kept.parted.pieces()
        made: list[bytes] = []
        size = 0
        while size < _PIECES_BYTES:
            piece = await self._turns.slice(kept.user, partial(next, kept.pieces, b""))
            if not piece:
                break
            made.append(piece)
            size += len(piece)
        return b"".join(made)

    def _of(self, number: int) -> _Kept:
        kept = self._kept.get(number)
        if kept is None:
            raise Busy("too many long answers are on their way")
        return kept
