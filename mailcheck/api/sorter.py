"""Waiting until a list is sorted."""

import asyncio

from huahuo.mailcheck.listing import Order


class Sorter:
    """One step of sorting in each turn of the loop, however many requests wait for orders.

    If each request did a step of its own, thirty of them would hold the loop for a hundred milliseconds.
    """

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()

    async def ready(self, order: Order) -> None:
        """Return once `order` may be read. Requests for the same order share its steps."""
        while not order.ready:
            async with self._one_at_a_time:
                if not order.ready:
                    order.step()
                    await asyncio.sleep(0)
