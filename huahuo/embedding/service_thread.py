"""The thread that a service runs in, and the calls onto it from other threads."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from huahuo.app.caches import letting_go
from huahuo.app.loops import run
from huahuo.app.memory import Tidier
from huahuo.app.wiring import App
from huahuo.embedding.bridge import Bridge
from huahuo.embedding.faults import translate, translated
from huahuo.errors import HuahuoError, NotRunning
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import Append, Appended

_CALL_TIMEOUT_S = 30.0
_DRAIN_SHARE = 0.9
"""The share of a stop's time for the drain; the rest is for the end of the loop and of the thread."""

type Work[T] = Callable[[App], Coroutine[Any, Any, T]]


class ServiceThread:
    """See the module. `make` makes the service, on its thread."""

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
            starting = _Starting()
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._run, args=(starting,), name="huahuo", daemon=True)
            self._thread.start()
            starting.done.wait()
            if starting.error is not None:
                self._thread.join()
                self._thread = None
                raise starting.error

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

    def _run(self, starting: "_Starting") -> None:
        """The body of the thread: one loop from start to stop."""
        try:
            run(self._main(starting))
        except BaseException as error:  # noqa: BLE001  handed to the thread that waits in start()
            starting.error = error
        finally:
            if self._bridge is not None:
                self._bridge.stop()
            starting.done.set()

    async def _main(self, starting: "_Starting") -> None:
        self._stopping = asyncio.Event()
        app = self._make()
        await app.start()
        self._app = app
        self._bridge = Bridge(asyncio.get_running_loop())
        starting.done.set()
        # Return freed memory to the system, but leave the garbage collector to the application.
        with Tidier(asyncio.get_running_loop(), collects=False, let_go=letting_go(app)):
            await self._stopping.wait()

    async def _drain(self, app: App, timeout_s: float) -> None:
        try:
            await app.stop(timeout_s)
        finally:
            self._stopping.set()


class _Starting:
    """The result of starting, for the thread that waits for it."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: BaseException | None = None
