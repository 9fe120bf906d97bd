"""`app.asgi`: a `Huahuo` application inside an ASGI server, on the server's own port.

    api = FastAPI(lifespan=app.lifespan)
    api.mount("/live", app.asgi)                    # Starlette and Litestar mount it in the same way
    application = app.asgi(django, path="/live")    # around an application that cannot mount one

Without `lifespan`, the first request or call starts the service. Only one process may serve a directory.
The service starts with the first of its hosts in a process and stops with the last; it starts before the
other application and stops after it. The other one need not know lifespan events: Django and the routers
of Channels raise an error, and others return or answer as if they were a request.
"""

import asyncio
import contextlib
import inspect
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from types import FrameType
from typing import Any, Final, Protocol, cast, overload

import structlog

from huahuo.actors.actor.messages import where
from huahuo.app.wiring import App
from huahuo.errors import HuahuoError
from huahuo.eventstore.errors import InUse
from huahuo.transport.http.asgi import AsgiTransport, path_of

_ELSEWHERE: Final = (
    "the service runs on the event loop of another thread: serve all hosts of one Huahuo on one loop, or give"
    " each thread a Huahuo with a directory of its own"
)


class Owner(Protocol):
    """The application (`Huahuo`)."""

    @property
    def app(self) -> App | None:
        """The running service."""
        ...

    async def start_inside(self) -> App:
        """Start without a port. Raises HuahuoError."""
        ...

    async def stop(self) -> None:
        """Drain and stop."""
        ...


class Hosts:
    """The hosts of one service in a process: it starts with the first and stops with the last of them.

    A service that was started otherwise (`async with app`) is not stopped here.
    """

    def __init__(self, owner: Owner, start: Callable[[str], Awaitable[App]]) -> None:
        """`start` starts the service, for the log by what: `lifespan` or `first use`."""
        self._owner = owner
        self._start = start
        self._count = 0
        self._ours: App | None = None
        """The service that was started here last."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncGenerator[App]:
        """The service, for as long as one host lives. Raises HuahuoError: it could not start."""
        turns = self._turns_here()
        async with turns:
            app = await self._started("lifespan")
            self._count += 1
        try:
            yield app
        finally:
            self._count -= 1  # before anything that may be cancelled
            async with turns:
                if self._is_ours and not self._count:
                    self._ours = None
                    await self._owner.stop()

    async def first_use(self) -> App:
        """The service, which starts if it does not run. Raises as `one`."""
        async with self._turns_here():
            return await self._started("first use")

    def must_be_here(self) -> None:
        """Raises HuahuoError: the service was started for hosts on another loop, and runs there."""
        if self._is_ours and self._loop is not asyncio.get_running_loop():
            raise HuahuoError(_ELSEWHERE)

    @property
    def _is_ours(self) -> bool:
        """Whether the service that runs was started here."""
        return self._ours is not None and self._owner.app is self._ours

    def _turns_here(self) -> asyncio.Lock:
        """Starts and stops are one at a time. A lock belongs to one loop."""
        self.must_be_here()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._turns, self._count = loop, asyncio.Lock(), 0
        return self._turns

    async def _started(self, by: str) -> App:
        app = self._owner.app
        if app is None:
            app = self._ours = await self._start(by)
        return app


type Scope = MutableMapping[str, Any]
type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
type Living = Callable[[], AbstractAsyncContextManager[None]]


_STARTED: Final = "lifespan.startup.complete"


class _NotAskedError(Exception):
    """The other application answers before it has read what the server says, or as if it were a request."""


async def live_both(service: Living, other: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the lifespan of `other` within that of the service."""
    unread, said, asked = [await receive()], "", 1
    async with contextlib.AsyncExitStack() as living:

        async def receive_next() -> Message:
            nonlocal asked
            if unread:
                return unread.pop()
            message = await receive()
            asked += 1
            return message

        async def send_when_ended(message: Message) -> None:
            nonlocal said
            if unread or not message["type"].startswith("lifespan."):
                raise _NotAskedError
            said = message["type"]
            if message["type"] != _STARTED:
                await living.aclose()
            await send(message)

        try:
            await living.enter_async_context(service())
        except HuahuoError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        try:
            await other(scope, receive_next, send_when_ended)
        except Exception as error:
            if said:
                raise
            if not unread:
                _log.warning("lifespan_not_answered", error=type(error).__name__, at=where(error))
        unread.clear()
        if not said:  # it does not know these events
            await send_when_ended({"type": _STARTED})
        if said == _STARTED:  # it has nothing to do at the end
            if asked == 1:
                await receive()
            await send_when_ended({"type": "lifespan.shutdown.complete"})


_ONE_PROCESS: Final = (
    "; one process serves a directory, so start the ASGI server with one worker (uvicorn --workers 1), or run"
    " `huahuo serve` by itself and let the workers publish with huahuo.Publisher"
)
_LATE: Final = "pass lifespan=app.lifespan to the host application: the service then starts and stops with it"
_NOT_STARTED: Final = b"the service could not start; its log says why\n"

_log = structlog.get_logger(__name__)


class Asgi:
    """See the module. Made by `Huahuo.asgi`."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: tuple[App, AsgiTransport] | None = None
        self._starting: asyncio.Task[App] | None = None
        self._hosts = Hosts(owner, self._start)
        self._late = Signals()

    @overload
    def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> Awaitable[None]: ...
    @overload
    def __call__(self, other: AsgiApp, /, *, path: str) -> AsgiApp: ...
    @inspect.markcoroutinefunction  # so servers see an ASGI 3 application
    def __call__(self, first: Any, *rest: Any, path: str = "/live") -> Any:
        """As an ASGI application, or `asgi(other, path="/live")`: `other` with this one below `path`."""
        return self._below(first, path) if not rest else self._serve(first, *rest)

    @contextlib.asynccontextmanager
    async def lifespan(self, _host: object = None) -> AsyncGenerator[None]:
        """Run the service for as long as the host application lives; of several, as long as one of them.

        Raises HuahuoError: it could not start, or runs on another loop.
        """
        async with self._hosts.one() as app:
            signals = Signals()  # of each host, since each server sets its own handlers
            signals.before(lambda: _begin(app.server.drain))
            try:
                yield
            finally:
                signals.restore()
                self._late.restore()

    async def live_with(self, other: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the lifespan of `other`, which needs the service: it starts before and stops after it."""
        await live_both(self.lifespan, other, scope, receive, send)

    async def running(self) -> App:
        """The service, which is started if it is not running. Raises HuahuoError."""
        self._hosts.must_be_here()
        app = self._owner.app
        if app is not None:
            return app
        if self._starting is None or self._starting.done():
            self._starting = asyncio.ensure_future(self._hosts.first_use())
        return await asyncio.shield(self._starting)

    async def _start(self, by: str) -> App:
        try:
            app = await self._owner.start_inside()
        except HuahuoError as error:
            if isinstance(error.__cause__, InUse):
                raise HuahuoError(f"{error}{_ONE_PROCESS}") from error
            raise
        _log.info("service_started", by=by)
        if by != "lifespan":
            _log.warning("service_started_late", hint=_LATE)
            self._late.before(lambda: _begin(self._owner.stop))
        return app

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await live_both(self.lifespan, _nothing, scope, receive, send)
            return
        try:
            app = await self.running()
        except HuahuoError as error:
            _log.error("service_not_started", reason=str(error))
            await _refuse(kind, receive, send)
            return
        transport = self._transport_of(app)
        if kind == "websocket":
            await transport.websocket(scope, cast("Any", receive), cast("Any", send))
        elif kind == "http":
            await transport.http(scope, cast("Any", receive), cast("Any", send))

    def _transport_of(self, app: App) -> AsgiTransport:
        if self._transport is None or self._transport[0] is not app:
            self._transport = app, AsgiTransport(app.server, app.http)
        return self._transport[1]

    def _below(self, other: AsgiApp, path: str) -> AsgiApp:
        root = "/" + path.strip("/")

        async def either(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await live_both(self.lifespan, other, scope, receive, send)
                return
            asked = path_of(scope)
            if asked == root or asked.startswith(f"{root}/"):
                scope = {**scope, "path": asked, "root_path": root}
                await self._serve(scope, receive, send)
            else:
                await other(scope, receive, send)

        return either


class Signals:
    """Lets something begin as soon as the process is asked to stop, before the server acts on the signal.

    ASGI servers tell applications of their end only after all connections have ended, and readers of
    server-sent events never end by themselves.
    """

    _NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._replaced: dict[signal.Signals, tuple[Any, Any]] = {}
        """What the server had set, and what is in its place."""

    def before(self, begin: Callable[[], object]) -> None:
        """Call `begin` on the running loop at a signal, and then what the server has set for it."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in self._NUMBERS:
            theirs = signal.getsignal(number)
            if callable(theirs) and number not in self._replaced:
                ours = _chained(theirs, loop, begin)
                self._replaced[number] = theirs, ours
                signal.signal(number, ours)

    def restore(self) -> None:
        """Set back what the server had set, unless another one has set its own since."""
        for number, (theirs, ours) in self._replaced.items():
            if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is ours:
                signal.signal(number, theirs)
        self._replaced.clear()


def _chained(
    theirs: Callable[[int, FrameType | None], Any],
    loop: asyncio.AbstractEventLoop,
    begin: Callable[[], object],
) -> Callable[[int, FrameType | None], None]:
    def receive(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(begin)
        theirs(number, frame)

    return receive


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Another application where there is none: it knows no lifespan."""


_ending: set[asyncio.Task[None]] = set()


def _begin(work: Callable[[], Any]) -> None:
    task: asyncio.Task[None] = asyncio.ensure_future(work())
    _ending.add(task)
    task.add_done_callback(_ending.discard)


async def _refuse(kind: str, receive: Receive, send: Send) -> None:
    if kind == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1013})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"5")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _NOT_STARTED})
