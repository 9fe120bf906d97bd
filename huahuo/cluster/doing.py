"""A node begins and stops the work that it does for all, and its part of what is divided, one at a time."""

import asyncio
from collections.abc import Awaitable, Callable

from huahuo.actors.entities.sharing import NOTHING, Share
from huahuo.eventstore.errors import EventStoreError

type Call = Callable[[], Awaitable[None]]
type Divide = Callable[[Share], Awaitable[None]]


class Doing:
    """See the module. `may`: whether this node takes work. What fails is undone, and the log's error raised.

    A drain of this node waits only for what begins or stops just now, not for a turn of `Duty`.
    """

    def __init__(self, work: Call, rest: Call, divide: Divide, may: Callable[[], bool]) -> None:
        self._work = work
        self._rest = rest
        self._divide = divide
        self._may = may
        self._changing = asyncio.Lock()
        self.works = False
        self.share = NOTHING

    async def begin(self) -> None:
        """Begin the work of all. Idempotent."""
        async with self._changing:
            if self.works or not self._may():
                return
            self.works = True
            try:
                await self._work()
            except EventStoreError:  # the next turn begins it again
                self.works = False
                await self._rest()
                raise

    async def stop(self) -> None:
        """Stop the work of all. Idempotent."""
        async with self._changing:
            if self.works:
                self.works = False
                await self._rest()

    async def stop_all(self) -> None:
        """Do nothing at all."""
        await self.divide(NOTHING)
        await self.stop()

    async def divide(self, share: Share) -> None:
        """Do this part of what is divided, and no other one."""
        async with self._changing:
            if share == self.share or (share != NOTHING and not self._may()):
                return
            self.share = share
            try:
                await self._divide(share)
            except EventStoreError:  # the next turn tries it again
                self.share = NOTHING
                await self._divide(NOTHING)
                raise
