"""A loop of real time whose clock a test may put forward, and whose timers it may count."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any


class WatchedLoop(asyncio.SelectorEventLoop):
    """See the module."""

    ahead_s = 0.0
    """How far its clock was put forward."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return super().time() + self.ahead_s

    def call_at[*Ts](
        self, when: float, callback: Callable[[*Ts], Any], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        self._timers.append(timer)
        return timer

    def timers_waiting(self) -> int:
        """How many timers are set."""
        now_s = self.time()
        return sum(not timer.cancelled() and timer.when() > now_s for timer in self._timers)


def watched_loop() -> WatchedLoop:
    """The running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WatchedLoop)
    return loop
