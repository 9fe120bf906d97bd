"""A bounded waiting room: so many items, so many bytes, first come first served."""

import asyncio
from collections import deque


class Gate:
    """Counts what is inside; who does not fit waits outside, in order.

    Invariant: nobody overtakes, also not one small enough to fit. Something larger than the room
    is let in when the room is empty.
    """

    def __init__(self, *, items_max: int, bytes_max: int) -> None:
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._items = 0
        self._bytes = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    def enter_now(self, size: int) -> bool:
        """Be let in with `size` bytes, if there is room and nobody waits for it."""
        if self._waiting or not self._fits(size):
            return False
        self._let_in(size)
        return True

    async def enter(self, size: int) -> None:
        """Wait outside until there is room for `size` bytes and nobody came earlier."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (turn, size)
        # It stays in the line until its owner runs again: one that comes in between queues behind.
        self._waiting.append(entry)
        self._call()
        try:
            if turn.done():
                # Those called before it have not run again yet: it comes in behind them.
                await asyncio.sleep(0)
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._items -= 1
                self._bytes -= size
            raise
        finally:
            self._waiting.remove(entry)
            self._call()

    def leave(self, items: int, size: int) -> None:
        """Make room: `items` of together `size` bytes are gone."""
        self._items -= items
        self._bytes -= size
        self._call()

    @property
    def waiting(self) -> bool:
        """Whether somebody stands outside, or has been called and is not in yet."""
        return bool(self._waiting)

    def _fits(self, size: int) -> bool:
        if self._items == 0:
            return True
        return self._items < self._items_max and self._bytes + size <= self._bytes_max

    def _let_in(self, size: int) -> None:
        self._items += 1
        self._bytes += size

    def _call(self) -> None:
        for turn, size in self._waiting:
            if turn.done():
                continue
            if not self._fits(size):
                break
            self._let_in(size)
            turn.set_result(None)
