"""An event loop whose clock jumps: hours of timers pass in milliseconds, and a deadlock is an error.

`time()` moves to the next timer when nothing else can run. Nothing runnable and no timer: Deadlock.
Other threads would need real time. Sockets between two ends on the same loop work, because the system moves
their bytes within the call that sends them.
"""

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any

_RESOLUTION_S = 1e-7
"""After 97 days a time has steps of 2 ns, and a jump to a timer may end one step before it."""


class DeadlockError(RuntimeError):
    """Nothing can ever run again, and the program still waits."""


class _JumpingSelector(selectors.BaseSelector):
    """Never waits: it asks the real selector without patience and lets the clock jump instead."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready:
            if timeout is None:
                raise DeadlockError("deadlock: nothing runnable and no timer")
            self.now_s += max(timeout, 0.0)
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. Starts at 0 s."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = _RESOLUTION_S
        self.skips_to_s = 0.0
        """Until then no test can observe anything: what recurs may be rarer (`Ambient.routine_s`)."""

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._jumping.now_s

    def sleep_through(self, seconds: float) -> None:
        """As after SIGSTOP and SIGCONT: time has gone by, and nothing has run meanwhile."""
        self._jumping.now_s += seconds


def run_virtual[T](main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on a virtual loop.

    Raises:
        DeadlockError: `main` waits for what can never happen.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_loop() -> VirtualLoop:
    """The running loop, within `run_virtual`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
