"""One timer of the loop for a deadline that moves with each message."""

import asyncio
from collections.abc import Callable

TIMER_STEP_S = 0.01
"""Not at once: while the writer waits for a full socket, the session can do nothing."""


class Alarm:
    """Calls `ring` at the deadline or before it. `ring` sets the alarm again."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float | None) -> None:
        """Ring at `at`. A timer for an earlier time stays, because its ring sets the alarm again."""
        if at is None:
            return
        loop = asyncio.get_running_loop()
        at = max(at, loop.time() + TIMER_STEP_S)
        if self._timer is not None and self._timer.when() <= at:
            return
        self.stop()
        self._timer = loop.call_at(at, self._due)

    def stop(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._ring()
