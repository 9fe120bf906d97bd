"""The time limit of a connection for what comes next. One timer of the loop."""

import asyncio
import math
from collections.abc import Callable
from typing import Final

LINGER_SILENCE_S: Final = 1.0
"""A client that still sends a body which was refused is read until it pauses for this long."""
LINGER_S: Final = 10.0
"""At most this long. Closed with bytes unread, TCP would take the answer from such a client."""


class TimeLimit:
    """Calls `late` when the time is over, unless it was set anew."""

    def __init__(self, late: Callable[[], None]) -> None:
        self._late = late
        self._timer: asyncio.TimerHandle | None = None
        self._until_s = math.inf

    def set(self, after_s: float | None) -> None:
        """From now on it is this long. None: no limit but the last one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if after_s is None and self._until_s == math.inf:
            return
        loop = asyncio.get_running_loop()
        ends_s = self._until_s if after_s is None else min(loop.time() + after_s, self._until_s)
        self._timer = loop.call_at(ends_s, self._over)

    def set_last(self, after_s: float) -> None:
        """This one holds whatever is set later."""
        self._until_s = asyncio.get_running_loop().time() + after_s
        self.set(after_s)

    def end(self) -> None:
        """There is no limit any more."""
        self._until_s = math.inf
        self.set(None)

    def _over(self) -> None:
        self._timer = None
        self._late()
