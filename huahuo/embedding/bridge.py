"""The only way from a foreign thread onto the event loop: the embedding API's door."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any


class Bridge:
    """Runs coroutines on one loop for callers on other threads, and lets each wait for its result."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._stopped = False
        self._waiting: set[concurrent.futures.Future[Any]] = set()

    def call[T](self, factory: Callable[[], Coroutine[Any, Any, T]], timeout_s: float) -> T:
        """Run `factory()` on the loop, wait for it, and return or raise what it does.

        Raises:
            RuntimeError: called on the loop's own thread (it would wait for itself), or after `stop`.
            TimeoutError: no result within `timeout_s`; the coroutine is cancelled, its outcome unknown.
        """
        if _running_loop() is self._loop:
            raise RuntimeError("this call would wait for itself: it was made on the service's own loop")
        # The lock holds `stop` off until the call is on the loop and can be ended by it.
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
        """Refuse further calls and end those that wait. From any thread; idempotent."""
        with self._lock:
            self._stopped = True
            waiting = tuple(self._waiting)
        for future in waiting:
            future.cancel()


async def _begin[T](factory: Callable[[], Coroutine[Any, Any, T]]) -> T:
    # The factory runs on the loop too: what it touches before its first await belongs there.
    return await factory()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
