"""Waiting until a list is sorted."""

import asyncio
from collections import deque

from huahuo.mailcheck.listing.order import Order


class Sorter:
    """One step of sorting in each turn of the loop, however many requests wait for orders.

    If each request did a step of its own, thirty of them would hold the loop for a hundred milliseconds.
    A request that was let go may wait before its step, until its user has paid for the last one. Meanwhile
    the next request is let go.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._letting = False

    async def ready(self, order: Order) -> None:
        """Return once `order` may be read. Requests for the same order share its steps."""
        while not order.ready:
            await self._turn()
            await asyncio.sleep(0)
            if not order.ready:
                order.step()

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if not self._letting:
            self._letting = True
            self._let_later()
        await turn

    def _let_later(self) -> None:
        asyncio.get_running_loop().call_soon(self._let_one_go)

    def _let_one_go(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._let_later()
                return
        self._letting = False
