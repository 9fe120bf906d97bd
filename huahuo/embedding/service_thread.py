"""The thread that a service runs in, and the only way from other threads onto its loop.

Errors of the embedding API are made from those of the floors below.
"""

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from asyncio.events import _get_running_loop
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final

from huahuo.actors.domain.structs import Refused
from huahuo.actors.plugins.plugin import ApiRefused
from huahuo.app.process import Tidier, run
from huahuo.app.wiring import App, letting_go
from huahuo.embedding import calls
from huahuo.errors import HuahuoError, NotRunning, OutcomeUnknown
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import Closed, EventStoreError, Unavailable
from huahuo.eventstore.model import Append, Appended
from huahuo.transport.commands.published_events import PublishRefused

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


class PublicationRefused(Refused, HuahuoError):  # noqa: N818  a refusal
    """What publishing raises: a `Refused`, and a `HuahuoError` like all that `Service` raises."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translate exceptions of the floors below into the errors of this API."""
    try:
        yield
    except BaseException as error:
        translate(error)
        raise


def translate(error: BaseException) -> None:
    """Raise what the application is told in place of `error`, if it is another one."""
    match error:
        case HuahuoError() | Refused():
            pass
        case PublishRefused():
            raise PublicationRefused(*calls.refused(error).args) from error
        case ApiRefused() | ValueError():
            raise HuahuoError(str(error)) from error
        case Unavailable() | TimeoutError():
            raise OutcomeUnknown("whether the event was written is not known") from error
        case Closed() | RuntimeError():
            raise NotRunning(str(error)) from error
        case EventStoreError():
            raise HuahuoError(str(error)) from error


_CALL_TIMEOUT_S = 30.0
_DRAIN_SHARE = 0.9
"""The share of a stop's time for the drain; the rest is for the end of the loop and of the thread."""

type Work[T] = Callable[[App], Coroutine[Any, Any, T]]


class ServiceThread:
    """The thread that a service runs in, and the calls onto it from other threads.

    `make` makes the service, on its thread.
    """

    def __init__(self, make: Callable[[], App], ambient: Ambient) -> None:
        self._make = make
        self._ambient = ambient
        self._app: App | None = None
        self._draining: App | None = None
        self._bridge: Bridge | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        """Id of the process that called `start`, 0 before."""
        self._lock = threading.Lock()

    def start(self) -> None:
        """See `Service.start`."""
        self._must_not_be_a_fork()
        with self._lock:
            if self._thread is not None:
                raise HuahuoError("the service has been started already")
            starting: concurrent.futures.Future[None] = concurrent.futures.Future()
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._run, args=(starting,), name="huahuo", daemon=True)
            self._thread.start()
            if (error := starting.exception()) is not None:
                self._thread.join()
                self._thread = None
                raise error

    def stop(self, timeout_s: float) -> None:
        """See `Service.stop`."""
        stop_by_s = self._ambient.monotonic_s() + timeout_s
        self._must_not_be_a_fork()
        with self._lock:
            if self._thread is None or self._bridge is None:
                return
            bridge, thread = self._bridge, self._thread
            self._draining, self._app = self._app or self._draining, None  # new calls raise NotRunning
            app = self._draining
            try:
                if app is not None and thread.is_alive():
                    with translated(), contextlib.suppress(TimeoutError):
                        bridge.call(lambda: self._drain(app, timeout_s * _DRAIN_SHARE), timeout_s)
            finally:
                thread.join(max(0.0, stop_by_s - self._ambient.monotonic_s()))
                if not thread.is_alive():
                    self._bridge = self._thread = self._draining = None
            if thread.is_alive():
                raise HuahuoError(
                    f"the service did not stop within {timeout_s:g} s: something blocks its thread"
                )

    @property
    def app(self) -> App | None:
        """The service, None if it does not run."""
        return self._app

    def running(self) -> App:
        """The service. Raises NotRunning."""
        self._must_not_be_a_fork()
        app = self._app
        if app is None:
            raise NotRunning("the service is not running: call start() first")
        return app

    def call[T](self, work: Work[T], waits_s: float = 0) -> T:
        """Do `work` on the loop. `waits_s`: how long it may wait, besides the time of a call.

        Raises:
            HuahuoError: as `translated`. NotRunning.
        """
        app, bridge = self.running(), self._bridge
        if bridge is None:
            raise NotRunning("the service is stopping")
        with translated():
            return bridge.call(lambda: work(app), waits_s + _CALL_TIMEOUT_S)

    def position(self, make: Callable[[App, str], tuple[Append, int]]) -> int:
        """Write the append, and return where the log then ends. `make` also says how large its events are.

        It gets the place in a trace of the thread that publishes.
        """
        # As few calls as can be: with threads that publish one event after the other, each costs a percent.
        app, bridge = self._app, self._bridge
        if app is None or bridge is None or self._pid != os.getpid():
            self.running()
            raise NotRunning("the service is stopping")
        here = app.publisher.here
        trace = "" if here is None else here()

        def begin(post: object) -> None:
            append, size = make(app, trace)
            app.log.submit_for(bridge, post, append, events_bytes=size)

        try:
            written = bridge.post(begin, _CALL_TIMEOUT_S)
        except BaseException as error:  # `translated`, which takes a tenth of the whole
            translate(error)
            raise
        assert isinstance(written, Appended), "only a command id makes a duplicate"
        return written.position

    def _must_not_be_a_fork(self) -> None:
        """Refuse a forked process: it has this object but not its thread, so a call would block.

        Raises:
            NotRunning: this process was forked after `start`.
        """
        if self._pid not in (0, os.getpid()):
            raise NotRunning(
                f"process {self._pid} started the service, and this process was forked from it: start the"
                " service after the fork and in one process only, and let the others publish as clients"
                " (docs/embedding.md)"
            )

    def _run(self, starting: concurrent.futures.Future[None]) -> None:
        """The body of the thread: one loop from start to stop."""
        try:
            run(self._main(starting))
        except BaseException as error:  # noqa: BLE001  handed to the thread that waits in start()
            if not starting.done():
                starting.set_exception(error)
        finally:
            if self._bridge is not None:
                self._bridge.stop()

    async def _main(self, starting: concurrent.futures.Future[None]) -> None:
        self._stopping = asyncio.Event()
        app = self._make()
        await app.start()
        self._app = app
        self._bridge = Bridge(asyncio.get_running_loop())
        starting.set_result(None)
        # Return freed memory to the system, but leave the garbage collector to the application.
        with Tidier(asyncio.get_running_loop(), collects=False, let_go=letting_go(app)):
            await self._stopping.wait()

    async def _drain(self, app: App, timeout_s: float) -> None:
        try:
            await app.stop(timeout_s)
        finally:
            self._stopping.set()
