"""The end of tasks that may ignore their cancellation."""

import asyncio
from collections.abc import Collection
from typing import Any


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
