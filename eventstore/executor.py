"""The one port through which work leaves the event loop's thread.

A job is one call that ends by itself (one group commit, one page read, one mail parsed), never a
loop that waits on a queue. So a simulated world can run every job inline and stay deterministic.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

_GIVE_WAY_S = 50e-6

_place = threading.local()
_never = threading.Event()


def give_way() -> None:
    """Let other threads have the interpreter. A long job of pure Python calls this about every 0.2 ms.

    A thread that wants the interpreter waits 5 ms for one that keeps it, and a commit needs it back after
    each of its statements: while two threads parsed, a commit was seven to fifteen times slower. On the
    loop's thread this does nothing.
    """
    if getattr(_place, "is_worker", False):
        _never.wait(_GIVE_WAY_S)


class Executor(Protocol):
    """Runs jobs somewhere else and lets the caller await the result."""

    async def run[T](self, job: Callable[[], T]) -> T:
        """Run `job` and return what it returns, or raise what it raises."""
        ...

    def close(self, *, wait: bool = True) -> None:
        """Free the threads, after running jobs if `wait`. Further `run` calls are an error."""
        ...


class ThreadExecutor:
    """Jobs on a fixed number of threads, in order of arrival.

    Lighter than a pool of `concurrent.futures`: its own future, with a lock and a condition, would come
    between the thread and the loop's future, and every commit would pay for it.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        # Daemons, so that a program can end without closing its log, as if killed.
        self._threads = [
            Thread(target=_work, args=(self._jobs,), name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run[T](self, job: Callable[[], T]) -> T:
        """See `Executor`. If the caller is cancelled before its job began, the job does not run."""
        if self._closed:
            raise RuntimeError("the executor is closed")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._jobs.put((job, done, loop))
        try:
            return await done
        finally:
            del done, job  # an exception holds this frame, and the future its exception

    def close(self, *, wait: bool = True) -> None:
        """See `Executor`."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)
        if wait:
            for thread in self._threads:
                thread.join()


type _Job = tuple[Callable[[], Any], asyncio.Future[Any], asyncio.AbstractEventLoop]


def _work(jobs: "SimpleQueue[_Job | None]") -> None:
    _place.is_worker = True
    while (taken := jobs.get()) is not None:
        job, done, loop = taken
        if not done.cancelled():
            result, error = None, None
            try:
                result = job()
            except BaseException as raised:  # noqa: BLE001  whatever it is, it is the caller's
                error = raised
            try:  # noqa: SIM105  `suppress` takes three calls, after each commit
                loop.call_soon_threadsafe(_finish, done, result, error)
            except RuntimeError:  # the loop is closed: no caller waits any more
                pass
            del result, error
        # So that an idle thread does not keep the last job and its result alive.
        del taken, job, done, loop


def _finish(done: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


class InlineExecutor:
    """Runs each job on the caller's thread, for unit tests and simulated worlds."""

    async def run[T](self, job: Callable[[], T]) -> T:
        """See `Executor`."""
        return job()

    def close(self, *, wait: bool = True) -> None:
        """See `Executor`."""
