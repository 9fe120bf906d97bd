"""The one port through which work leaves the event loop's thread.

A job is one call that ends by itself (one group commit, one page read, one mail parsed), never a
loop that waits on a queue: so a simulated world can run every job inline and stay deterministic.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol


class Executor(Protocol):
    """Runs jobs somewhere else and lets the caller await the result."""

    async def run[T](self, job: Callable[[], T]) -> T:
        """Run `job` and return what it returns, or raise what it raises."""
        ...

    def close(self) -> None:
        """Wait for running jobs and free the threads. Further `run` calls are an error."""
        ...


class ThreadExecutor:
    """Jobs on a fixed number of threads of one pool, in order of arrival."""

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)

    async def run[T](self, job: Callable[[], T]) -> T:
        """See `Executor`."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, job)

    def close(self) -> None:
        """See `Executor`."""
        self._pool.shutdown(wait=True)


class InlineExecutor:
    """Jobs right here, for unit tests and simulated worlds."""

    async def run[T](self, job: Callable[[], T]) -> T:
        """See `Executor`."""
        return job()

    def close(self) -> None:
        """See `Executor`."""
