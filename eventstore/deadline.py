"""Deadlines and cancellation of asyncio tasks.

`Deadline` is `asyncio.timeout`, counting only the time in which the process ran.
"""

import asyncio
from collections.abc import Collection
from types import TracebackType
from typing import Any, Self

from huahuo.eventstore.ambient import Ambient


class Deadline:
    """`async with Deadline(ambient, timeout_s)`: TimeoutError once the process has run for that long.

    When the deadline comes, the time slept (`Ambient.slept_s`) is added to it, so that input from that time
    is read first. With None there is no deadline until `restart`.
    """

    __slots__ = ("_ambient", "_due_s", "_handle", "_loop", "_slept_s", "_timeout", "_timeout_s")

    def __init__(self, ambient: Ambient, timeout_s: float | None) -> None:
        self._ambient = ambient
        self._timeout_s = timeout_s
        self._timeout = asyncio.timeout(None)
        self._handle: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._timeout.__aenter__()
        self.restart(self._timeout_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restart(None)
        await self._timeout.__aexit__(kind, error, trace)

    def restart(self, timeout_s: float | None) -> None:
        """Count `timeout_s` from now; None: stop counting."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if timeout_s is not None:
            self._slept_s = self._ambient.slept_s()
            self._due_s = self._loop.time() + timeout_s
            self._handle = self._loop.call_later(timeout_s, self._come)

    def expired(self) -> bool:
        """Whether the deadline came before the end of the block."""
        return self._timeout.expired()

    def _come(self) -> None:
        slept_s = self._ambient.slept_s()
        self._due_s += slept_s - self._slept_s
        moved, self._slept_s = slept_s > self._slept_s, slept_s
        if moved and self._due_s > self._loop.time():
            self._handle = self._loop.call_at(self._due_s, self._come)
        else:
            self._handle = None
            self._timeout.reschedule(self._loop.time())


async def cancel_all(tasks: Collection[asyncio.Future[Any]], timeout_s: float) -> int:
    """Cancel `tasks` and wait for their end, at most `timeout_s`. How many still run then."""
    for task in tasks:
        task.cancel()
    if not tasks:
        return 0
    _, late = await asyncio.wait(tasks, timeout=timeout_s)
    return len(late)


def is_cancelled(error: BaseException) -> bool:
    """Whether somebody cancels this task, rather than what it calls raises something of its own.

    A coroutine whose loop was closed runs in no task: its `GeneratorExit` is such an end, too.
    """
    task = None if asyncio._get_running_loop() is None else asyncio.current_task()  # noqa: SLF001  never raises
    if isinstance(error, asyncio.CancelledError):
        return task is not None and task.cancelling() > 0
    return isinstance(error, GeneratorExit) and task is None
