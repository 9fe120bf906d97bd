"""The stop of a service: its parts in reverse order of their start, all within one deadline.

A part that hangs or fails does not keep those after it from being stopped.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

_RESERVE: float = 1 / 40
"""The share of the deadline that is kept for each later part: 0.25 s of 10 s."""
_GRACE: float = 1 / 5
"""The share of its time that a part gets to cancel what did not end by itself."""

_log = structlog.get_logger(__name__)

WORK_S: Final = 3.0
"""How long a stop waits for work that ends because of it."""

type StopPart = Callable[[float], Awaitable[object]]
"""Stops a part. It is told after how many seconds it should cancel what still runs."""


class AtStop:
    """Tells its listeners that the stop begins, and waits for the work that they then bring to an end."""

    def __init__(self) -> None:
        self._waiting: dict[Callable[[], object], None] = {}
        self._begun = False
        self._works: list[asyncio.Future[object]] = []

    def add(self, stops: Callable[[], object]) -> Callable[[], None]:
        """Call `stops` once when the stop begins (at once if it has). The result ends that.

        If `stops` gives a future, such as a task, the stop waits for it while the service still works.
        """
        if self._begun:
            self._tell(stops)
        else:
            self._waiting[stops] = None
        return lambda: self._waiting.pop(stops, None)

    def begin(self) -> None:
        """The stop begins."""
        self._begun = True
        while self._waiting:
            self._tell(self._waiting.popitem()[0])

    async def finish(self, timeout_s: float) -> None:
        """Wait for the work."""
        if self._works:
            await asyncio.wait(self._works, timeout=min(timeout_s, WORK_S))

    def _tell(self, stops: Callable[[], object]) -> None:
        work = stops()
        if isinstance(work, asyncio.Future):
            self._works.append(work)


class Parts:
    """What has been started and must be stopped."""

    def __init__(self) -> None:
        self._parts: list[tuple[str, StopPart]] = []

    def add(self, name: str, stop: Callable[[], Awaitable[object] | None]) -> None:
        """`stop` is called before that of every part added earlier."""

        async def stop_part(_timeout_s: float) -> None:
            stopped = stop()
            if stopped is not None:
                await stopped

        self._parts.append((name, stop_part))

    def add_timed(self, name: str, stop: StopPart) -> None:
        """As `add`, for a part that cancels by itself."""
        self._parts.append((name, stop))

    async def stop(self, timeout_s: float) -> None:
        """Stop all parts. A part that has not ended in its time is cancelled and left behind.

        Raises:
            Exception: the first exception that a part raised, after the others were stopped.
        """
        loop = asyncio.get_running_loop()
        stop_by_s = loop.time() + timeout_s
        reserve_s = timeout_s * _RESERVE
        failed: Exception | None = None
        while self._parts:
            name, stop_part = self._parts.pop()
            left_s = stop_by_s - loop.time() - reserve_s * len(self._parts)
            try:
                await _guarded(name, stop_part, max(reserve_s, left_s))
            except Exception as error:  # noqa: BLE001  raised below, when the other parts are stopped
                _log.error("part_not_stopped", part=name, error=type(error).__name__)
                failed = failed or error
        if failed is not None:
            raise failed


async def _guarded(name: str, stop_part: StopPart, budget_s: float) -> None:
    """Raises as `stop_part`; returns after `budget_s` whatever happens."""
    grace_s = budget_s * _GRACE
    stopping = asyncio.ensure_future(stop_part(budget_s - grace_s))
    done, late = await asyncio.wait({stopping}, timeout=budget_s - grace_s / 4)
    if late:
        _log.error("part_left_behind", part=name)
        stopping.cancel()
        done, _ = await asyncio.wait({stopping}, timeout=grace_s / 4)
    if done and not stopping.cancelled():
        stopping.result()
