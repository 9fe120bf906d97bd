"""A node whose clock is wrong rests while most of the others differ from it, and says so.

Timers ring by the clock, and tokens are judged by it: a client whose token "will be issued in ten minutes"
would be refused for good, though every other node lets it in.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from huahuo.cluster.coordination import Duty
from huahuo.eventstore.deadline import cancel_all
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.replicated.peers import Clocks

LOOK_S: Final = 2.5
WRONG: Final = "its clock is wrong"
_log = structlog.get_logger(__name__)


class Clock:
    """See the module. `tell`: gets the reason for `/readyz` whenever it changes, None while it is good."""

    def __init__(self, clocks: Clocks, duty: Duty, tell: Callable[[str | None], None]) -> None:
        self._clocks = clocks
        self._duty = duty
        self._tell = tell
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on."""
        self._task = asyncio.create_task(self._run(), name="clocks of nodes")

    async def stop(self) -> None:
        """Look no more. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            await cancel_all([task], 1.0)

    async def look(self) -> None:
        """Judge this node's clock, and draw the consequence."""
        before = self._clocks.trouble
        self._clocks.look()
        trouble = self._clocks.trouble
        if trouble == before:
            return
        if trouble is None:
            _log.info("clock_is_right")
            self._duty.fit(WRONG)
        elif before is None:
            _log.error("clock_is_wrong", reason=trouble, hint="set this machine's clock by NTP")
        self._tell(trouble)
        if trouble is not None:
            await self._duty.unfit(WRONG)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except EventStoreError as error:  # a turn of the duty leaves the work
                _log.warning("clock_not_judged", reason=str(error))
            except Exception:  # noqa: BLE001  a plug-in's code runs when the work is left
                _log.exception("clock_not_judged")
            await asyncio.sleep(LOOK_S)
