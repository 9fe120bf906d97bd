"""The only way from another thread onto the event loop, for the embedding API."""

import asyncio
import concurrent.futures
import threading
from asyncio.events import _get_running_loop
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

_STOPPED: Final = "the service stopped before it could answer"
_WAITS_FOR_ITSELF: Final = "this call would wait for itself: it was made on the service's own loop"
_HAS_STOPPED: Final = "the service has stopped"
_BACK_S: Final = 200e-6
"""The loop waits this long at most for threads that it told: half of a commit on a fast disk."""
_REST: Final = 64
"""Commits without such a wait after one for which most threads did not come."""


class Bridge:
    """Runs work on one loop for callers on other threads, which block until the result."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._stopped = False
        self._waiting: set[concurrent.futures.Future[Any]] = set()
        self._posted: list[_Post] = []
        """Posts that the loop has not begun."""
        self._posts: set[_Post] = set()
        """All that have no result."""
        self._expected = 0
        """While the loop waits for threads to come back: how many posts it waits for. Else 0."""
        self._all_back = threading.Lock()
        """Held, except when the last of them has come."""
        self._all_back.acquire()
        self._rest = 0
        """How many more commits are told without a wait."""
        self.back_s = _BACK_S
        """How long the loop waits at most for threads that it told."""

    def call[T](self, factory: Callable[[], Coroutine[Any, Any, T]], timeout_s: float) -> T:
        """Run `factory()` on the loop, wait for it, and return its result or raise its exception.

        Raises:
            RuntimeError: called on the loop's own thread (a deadlock), or after `stop`.
            TimeoutError: no result within `timeout_s`. The coroutine is cancelled, its outcome unknown.
        """
        if _get_running_loop() is self._loop:
            raise RuntimeError(_WAITS_FOR_ITSELF)
        # With the lock, `stop` waits until the call is on the loop, where `stop` can cancel it.
        with self._lock:
            if self._stopped or self._loop.is_closed():
                raise RuntimeError(_HAS_STOPPED)
            future = asyncio.run_coroutine_threadsafe(_begin(factory), self._loop)
            self._waiting.add(future)
        try:
            return future.result(timeout_s)
        except concurrent.futures.CancelledError:
            raise RuntimeError(_STOPPED) from None
        except TimeoutError:
            future.cancel()
            raise
        finally:
            with self._lock:
                self._waiting.discard(future)

    def post(self, begin: Callable[[object], None], timeout_s: float) -> object:
        """Begin work on the loop by a plain function, and wait for its outcome.

        `begin` gets a handle, and `heard` must be told its outcome: the bridge is a `Hearer` of the log. The
        loop is woken once for the posts of many threads, and those of one commit end in one pass.

        Raises:
            RuntimeError: as `call`.
            TimeoutError: no result within `timeout_s`. The outcome is unknown, or nothing was begun.
        """
        # Each call here is one of every publication from a thread.
        if _get_running_loop() is self._loop:
            raise RuntimeError(_WAITS_FOR_ITSELF)
        post = _Post(begin)
        with self._lock:
            if self._stopped or self._loop.is_closed():
                raise RuntimeError(_HAS_STOPPED)
            self._posts.add(post)
            self._posted.append(post)
            if self._expected:
                if len(self._posted) == self._expected:
                    self._all_back.release()
            elif len(self._posted) == 1:
                self._loop.call_soon_threadsafe(self._take)
        if not post.waits.acquire(timeout=timeout_s):
            self._end([(post, TimeoutError())])
        if isinstance(post.outcome, BaseException):
            raise post.outcome
        return post.outcome

    def heard(self, outcomes: Sequence[tuple[Any, object]]) -> None:
        """(what `begin` got, outcome) of each post that has ended. An exception is raised in the caller."""
        self._end(outcomes)
        if len(outcomes) > 1:
            self._gather(len(outcomes))

    def stop(self) -> None:
        """Refuse further calls and end those that wait. Call it from any thread. Idempotent."""
        with self._lock:
            self._stopped = True
            waiting, posts = tuple(self._waiting), tuple(self._posts)
        for future in waiting:
            future.cancel()
        self._end([(post, RuntimeError(_STOPPED)) for post in posts])

    def _gather(self, told: int) -> None:
        """Let the threads that were told of a commit come back, so that the next commit has posts of all.

        Otherwise half of the threads wait for each commit while the other half come back. The loop itself
        waits, because as long as it runs, it has the interpreter that they need. On the loop.
        """
        if self._rest:
            self._rest -= 1
            return
        with self._lock:
            before = len(self._posted)
            self._expected = before + told
        self._all_back.acquire(timeout=self.back_s)
        with self._lock:
            came = len(self._posted) - before
            self._expected = 0
            self._all_back.acquire(blocking=False)  # the last one may have come just after the wait
        if 2 * came < told:
            self._rest = _REST
        self._take()

    def _take(self) -> None:
        """Begin what was posted. On the loop."""
        with self._lock:
            posted, self._posted = self._posted, []
        for post in posted:
            if post not in self._posts:  # its caller waits no more
                continue
            try:
                post.begin(post)
            except Exception as error:  # noqa: BLE001  whatever it is, it is the caller's
                self._end([(post, error)])

    def _end(self, outcomes: Sequence[tuple["_Post", object]]) -> None:
        """Give posts their outcomes, unless they have one."""
        ended: list[_Post] = []
        with self._lock:
            for post, outcome in outcomes:
                if post in self._posts:
                    self._posts.discard(post)
                    post.outcome = outcome
                    ended.append(post)
        for post in ended:
            post.waits.release()


class _Post:
    """Work that a thread waits for, on a lock: that costs a tenth of a future's condition."""

    __slots__ = ("begin", "outcome", "waits")

    def __init__(self, begin: Callable[[object], None]) -> None:
        self.begin = begin
        self.outcome: object = None
        self.waits = threading.Lock()
        self.waits.acquire()


async def _begin[T](factory: Callable[[], Coroutine[Any, Any, T]]) -> T:
    # The factory runs on the loop too, because what it touches before its first await belongs to the loop.
    return await factory()
