"""The only way from another thread onto the event loop, for the embedding API."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any


class Bridge:
    """Runs coroutines on one loop for callers on other threads, which block until the result."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._stopped = False
        self._waiting: set[concurrent.futures.Future[Any]] = set()

    def call[T](self, factory: Callable[[], Coroutine[Any, Any, T]], timeout_s: float) -> T:
        """Run `factory()` on the loop, wait for it, and return its result or raise its exception.

        Raises:
            RuntimeError: called on the loop's own thread (a deadlock), or after `stop`.
            TimeoutError: no result within `timeout_s`. The coroutine is cancelled, its outcome unknown.
        """
        if _running_loop() is self._loop:
            raise RuntimeError("this call would wait for itself: it was made on the service's own loop")
        # With the lock, `stop` waits until the call is on the loop, where `stop` can cancel it.
        with self._lock:
            if self._stopped or self._loop.is_closed():
                raise RuntimeError("the service has stopped")
            future = asyncio.run_coroutine_threadsafe(_begin(factory), self._loop)
            self._waiting.add(future)
        try:
            return future.result(timeout_s)
        except concurrent.futures.CancelledError:
            raise RuntimeError("the service stopped before it could answer") from None
        except TimeoutError:
            future.cancel()
            raise
        finally:
            with self._lock:
                self._waiting.discard(future)

    def stop(self) -> None:
        """Refuse further calls and end those that wait. Call it from any thread. Idempotent."""
        with self._lock:
            self._stopped = True
            waiting = tuple(self._waiting)
        for future in waiting:
            future.cancel()


async def _begin[T](factory: Callable[[], Coroutine[Any, Any, T]]) -> T:
    # The factory runs on the loop too, because what it touches before its first await belongs to the loop.
    return await factory()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
