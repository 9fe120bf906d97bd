"""Reserving numbers of counters for this node: what is wanted, what is under way, and who waits for it."""

import asyncio
from collections.abc import Callable

from huahuo.eventstore.errors import NumbersSpent, Unavailable
from huahuo.eventstore.replicated.apply import Reserved
from huahuo.eventstore.replicated.blocks import BLOCK, Blocks
from huahuo.eventstore.replicated.proposal import Reserve


class Reservations:
    """See the module. `wanted` maps a counter to the numbers that the next proposal reserves."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wanted: dict[str, int] = {}
        self._wake = wake
        self._blocks = Blocks()
        self._coming: dict[str, asyncio.Future[None]] = {}

    def take(self, counter: str, count: int) -> int:
        """The first of `count` reserved numbers; a next block is asked for before the last is used up.

        Raises:
            NumbersSpent: fewer are reserved.
        """
        first = self._blocks.take(counter, count)
        if first is None or self._blocks.is_low(counter):
            self._want(counter, count)
        if first is None:
            raise NumbersSpent(counter, count)
        return first

    async def reserve(self, counter: str, count: int) -> None:
        """Wait until `count` numbers are reserved. Raises Unavailable."""
        while not self._blocks.has(counter, count):
            await asyncio.shield(self._want(counter, count))

    def next_wanted(self) -> list[Reserve]:
        """What the next proposal reserves."""
        wanted = [Reserve(counter, count) for counter, count in self.wanted.items()]
        self.wanted.clear()
        return wanted

    def want_again(self, reserve: Reserve) -> None:
        """What was wanted did not get into a proposal."""
        self.wanted[reserve.counter] = reserve.count

    def came(self, reserved: Reserved) -> None:
        """A block is this node's."""
        self._blocks.add(reserved.counter, reserved.first, reserved.count)
        waiter = self._coming.pop(reserved.counter, None)
        if waiter is not None:
            waiter.set_result(None)

    def end(self, reason: str) -> None:
        """Nothing is reserved any more."""
        for waiter in self._coming.values():
            waiter.set_exception(Unavailable(reason))
            waiter.exception()  # it counts as retrieved, so asyncio does not log it
        self._coming.clear()
        self.wanted.clear()

    def _want(self, counter: str, count: int) -> asyncio.Future[None]:
        coming = self._coming.get(counter)
        if coming is None:
            coming = self._coming[counter] = asyncio.get_running_loop().create_future()
            self.wanted[counter] = max(count, BLOCK)
            self._wake()
        return coming
