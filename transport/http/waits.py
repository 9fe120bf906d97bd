"""How a request waits: until its user owes no more time than is free, then for a turn of the loop."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from huahuo.transport.server.turns import Turns


class Waits:
    """See the module."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._waiting: set[asyncio.Future[None]] = set()
        self._closed = False

    def close(self) -> None:
        """End all waits, now. Whatever would wait from now on is refused."""
        self._closed = True
        for waiting in tuple(self._waiting):
            waiting.cancel()

    async def paid(self, user: str) -> bool:
        """Wait until `user` owes no more time than is free. False: the service stops. Raises Crowded."""
        turns = self._turns
        if turns.may_go(user) and not turns.paying.waiting(user):
            return True
        return await self._unless_closed(turns.paid_soon(user))

    async def has_turn(self, user: str) -> bool:
        """Wait in the line of `user` for a turn of the loop. False: the service stops."""
        rounds = self._turns.rounds
        return rounds.may_begin(user) or await self._unless_closed(rounds.turn(user))

    async def _unless_closed(self, waits: Coroutine[Any, Any, None]) -> bool:
        """Wait, at most until the service stops. False: it stops."""
        if self._closed:
            waits.close()
            return False
        waiting = asyncio.ensure_future(waits)
        self._waiting.add(waiting)
        try:
            await asyncio.wait((waiting,))
        finally:
            self._waiting.discard(waiting)
            waiting.cancel()
        if waiting.cancelled():
            return False
        waiting.result()
        return True
