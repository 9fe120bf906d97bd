"""Looks through the table of open effects: now and then, and when somebody asks. One look at a time."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError

_log = structlog.get_logger(__name__)


class Sweeping:
    """See the module. `look` reads the table; `wanted` says at each tick whether it must be."""

    def __init__(
        self, ambient: Ambient, look: Callable[[], Awaitable[None]], wanted: Callable[[], bool]
    ) -> None:
        self._ambient = ambient
        self._look = look
        self._wanted = wanted
        self._every_s = self._tick_s = self._unswept_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.lap: asyncio.Task[None] | None = None
        """The look that is under way."""

    def start(self, *, every_s: float, tick_s: float) -> None:
        """Look every `every_s` seconds from now on; ask every `tick_s` whether it is wanted earlier."""
        self._every_s, self._tick_s = every_s, tick_s
        self._arm()

    def stop(self) -> None:
        """Begin no more looks by itself. The one that is under way goes on."""
        if self._timer is not None:
            self._timer.cancel()

    def again(self) -> None:
        """Look now, unless a look is under way."""
        if self.lap is None:
            self.lap = asyncio.get_running_loop().create_task(self._one(), name="effects in the table")

    def _tick(self) -> None:
        self._unswept_s += self._tick_s
        if self._unswept_s >= self._every_s or self._wanted():
            self._unswept_s = 0.0
            self.again()
        self._arm()

    def _arm(self) -> None:
        wait_s = self._ambient.routine_s(self._tick_s)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    async def _one(self) -> None:
        try:
            await self._look()
        except EventStoreError as error:
            _log.warning("effects_not_read", error=type(error).__name__)
        finally:
            self.lap = None
