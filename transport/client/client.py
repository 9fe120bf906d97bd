"""The Python client: keeps one connection to a server alive and hands over each event once.

```python
async with Client("http://127.0.0.1:8765", token=token, client="worker-1") as client:
    reply = await client.send("check_emails", email_ids=[17])
```

See docs/python-client.md. `Client` is what an application calls, and the shell with the timer and the tasks:
it keeps the connection and hands on what the session says. `session` makes the decisions, `connection` opens
and reads the socket.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, cast
from weakref import WeakValueDictionary

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from huahuo.actors.plugins.words import Language
from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.transport.client.connection import (
    CLOSE_WITHIN_S,
    Receiver,
    Tokens,
    TokenSource,
    close_socket,
    open_socket,
    websocket_url,
)
from huahuo.transport.client.cursors import CursorStore, MemoryCursors
from huahuo.transport.client.model import (
    After,
    ClientStopped,
    Connecting,
    Cursor,
    Item,
    Offline,
    Online,
    Outcome,
    Problem,
    Processed,
    ProtocolViolation,
    Reached,
    Readable,
    Replied,
    Snapshot,
    State,
    Status,
    Stopped,
    StreamEnded,
    TokenExpiring,
)
from huahuo.transport.client.retry import Retry
from huahuo.transport.client.session import ClientSession
from huahuo.transport.client.subscription import Batches, Events, Subscription, WatchedJob, pages
from huahuo.transport.protocol.codes import CloseCode

_log = logging.getLogger("huahuo.client")


TIMER_STEP_S = 0.01
"""Not at once: while the writer waits for a full socket, the session can do nothing."""


class Client:
    """A connection that reconnects automatically. Use it with `async with`, which does not wait to be online.

    Args:
        url: see `socket.websocket_url`.
        token: a JWT. When it has expired, the client stops.
        get_token: a plain or async function that returns a JWT. Called again before a token expires.
        client: the stable id of this installation. Command ids are unique within it, and a second connection
            with the same id takes over. If not given, each `Client` object makes one, which survives
            reconnects but not a restart of your program. If the server must recognise command ids after a
            restart, give an id that your program keeps (a worker's name, a line in its own files).
        cursors: the store for cursors; in memory if not given.
        window: at most this many events wait to be processed, over all streams.
        backoff_s: first and longest delay before a reconnect, each with full jitter.
        commands_max: at most this many commands wait for an answer.
        messages_per_s: the rate at which commands are sent (the server's limit is 100); 0 = no limit.
        open_timeout_s: the time limit for connecting.
        proxy: as in `websockets.connect`; True takes the proxy from the environment.
        compression: offer the compressed protocol first (not through a proxy).
        language: of messages for people, `en` or `zh`; None is the service's own.
    """

    _loop: asyncio.AbstractEventLoop
    _hurry: asyncio.Event
    """Set: do not wait before the next attempt to connect."""
    _stored: dict[str, Cursor]

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        get_token: TokenSource | None = None,
        client: str | None = None,
        cursors: CursorStore | None = None,
        window: int = 512,
        ambient: Ambient | None = None,
        backoff_s: tuple[float, float] = (0.5, 20.0),
        commands_max: int = 1000,
        messages_per_s: float = 90.0,
        open_timeout_s: float = 10.0,
        proxy: str | Literal[True] | None = None,
        compression: bool = True,
        language: Language | None = None,
    ) -> None:
        tokens = Tokens(token, get_token)
        ambient = ambient or SystemAmbient()
        retry = Retry(ambient.random, first_s=backoff_s[0], max_s=backoff_s[1], renewable=tokens.renewable)
        session = ClientSession(
            client=client or f"py-{ambient.token(8)}",
            window=window,
            command_prefix=ambient.token(6),
            retry=retry,
            commands_max=commands_max,
            messages_per_s=messages_per_s,
            language=language,
        )
        self.url = websocket_url(url)
        self._session = session
        self._tokens = tokens
        self._store = cursors or MemoryCursors()
        self._state: State = "offline"
        self._error: ClientStopped | None = None
        """Why the client has stopped for good."""
        self._listeners: list[Callable[[Status], None]] = []
        self._changed = asyncio.Event()
        self._silent = True
        """Nothing was logged, and the client was never online."""
        self._socket: ClientConnection | None = None
        """The open one."""
        self._write = asyncio.Event()
        """Set: the session may have something to send."""
        self._open_timeout_s = open_timeout_s
        self._proxy = proxy
        self._receiver = Receiver(self.url, compression and not proxy, timeout_s=open_timeout_s)
        # Weak, so that an abandoned subscription is collected (see Subscription.__del__).
        self._subscriptions: WeakValueDictionary[str, Subscription] = WeakValueDictionary()
        self._waiting: dict[Hashable, asyncio.Future[Any]] = {}
        """The calls that wait: for the answer to a command, by its id, or for a place in a stream."""
        self._retry_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.snapshots: dict[str, Snapshot] = {}
        """The last snapshot handed to a consumer, by stream."""

    async def _run(self) -> None:
        while True:
            self._change("connecting")
            self._tell(Connecting())
            try:
                code, reason = await self._use_once()
            except Exception as error:  # noqa: BLE001  else this task ends, and the client seems to be online
                code, reason = None, f"{type(error).__name__}: {error}"
                self._tell(Problem("connection_failed", reason))
                self._loop.call_exception_handler({"message": "a connection failed", "exception": error})
            self._session.closed(code, reason, self._loop.time())
            self._pump()
            if self._error is not None:
                return
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._retry_s):
                    await self._hurry.wait()

    async def _use_once(self) -> tuple[int | None, str]:
        """Open a connection and use it until it ends. The close code (None: no close came) and the reason."""
        try:
            token = await self._current_token()
        except Exception as error:  # noqa: BLE001  the application's own function
            return None, f"no token: {type(error).__name__}"
        if self._session.phase == "stopped":
            return None, ""
        try:
            socket = await open_socket(
                self.url, self._receiver.offered, timeout_s=self._open_timeout_s, proxy=self._proxy
            )
        except InvalidStatus as error:
            too_many = error.response.status_code == 429  # noqa: PLR2004  Too Many Requests
            return CloseCode.TOO_MANY_CONNECTIONS if too_many else None, str(error)
        except (OSError, TimeoutError, WebSocketException) as error:
            return None, f"{type(error).__name__}: {error}"
        self._socket = socket
        try:
            if socket.subprotocol not in self._receiver.offered:
                return CloseCode.UNSUPPORTED_VERSION, "the server speaks nothing that was offered"
            return await self._converse(socket, token)
        finally:
            self._socket = None
            await close_socket(socket)

    async def _converse(self, socket: ClientConnection, token: str) -> tuple[int | None, str]:
        loop = self._loop
        self._session.connected(token, loop.time())
        self._pump()
        writer = self._spawn(self._send_all(socket))
        try:
            while True:
                raw = await self._receiver.receive(socket, self._session.dictionary)
                self._session.received(raw, loop.time())
                self._pump()
        except ConnectionClosed as error:
            return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (None, "the connection was lost")
        except ProtocolViolation as error:
            self._tell(Problem("protocol_violation", str(error)))
            return None, str(error)
        finally:
            writer.cancel()

    async def _send_all(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):  # the reader raises it too
            while True:
                await self._write.wait()
                self._write.clear()
                for message in self._session.outgoing(self._loop.time()):
                    await socket.send(message)
                self._arm()

    async def _current_token(self) -> str:
        needed = self._tokens.token is None or self._session.needs_token
        if self._tokens.renewable and needed and not await self._tokens.renew():
            expired = "the token has expired and no new one was given"
            self._session.stop(ClientStopped(CloseCode.TOKEN_EXPIRED, expired))
        return cast("str", self._tokens.token)

    async def _refresh(self) -> None:
        try:
            if await self._tokens.renew():
                self._session.authenticate_again(cast("str", self._tokens.token))
        except Exception as error:  # noqa: BLE001  the application's own function
            self._tell(Problem("no_token", type(error).__name__))
        self._pump()

    def _pump(self) -> None:
        """Hand on what happened, then let the line send what is to be sent."""
        for happening in self._session.drain():
            match happening:
                case Readable(stream=stream):
                    if (subscription := self._subscriptions.get(stream)) is not None:
                        subscription.wake()
                case Replied(id=command_id, reply=reply):
                    _resolve(self._waiting.get(command_id), reply)
                case Reached(token=token, error=error):
                    _resolve(self._waiting.get(token), error)
                case StreamEnded(stream=stream, error=error):
                    if (subscription := self._subscriptions.pop(stream, None)) is not None:
                        subscription.failed(error)
                case Processed(cursors=cursors):
                    self._save(cursors)
                case _:
                    self._status(happening)
        self._write.set()
        self._arm()

    def _status(self, status: Status) -> None:
        match status:
            case Online():
                self._silent = False
                self._change("online")
            case Offline(retry_s=retry_s):
                self._retry_s = retry_s
                self._change("offline")
            case Stopped(error=error):
                self._error = error
                self._change("stopped")
                for followed in list(self._subscriptions.values()):
                    followed.failed(error)
                self._subscriptions.clear()
                for future in self._waiting.values():
                    _resolve(future, error)
            case Outcome(stream=stream):
                if (subscription := self._subscriptions.get(stream)) is not None:
                    subscription.placed(status)
            case TokenExpiring():
                if self._tokens.renewable:
                    self._spawn(self._refresh())
            case _:
                pass
        self._tell(status)

    def _tell(self, status: Status) -> None:
        """Call all listeners. What one raises goes to the loop's exception handler.

        A program without a listener would wait in silence for a service that does not run or whose address is
        wrong. So until the client has been online once, the first failed attempt is logged for it.
        """
        if self._silent and not self._listeners and isinstance(status, Offline):
            self._silent = False
            _log.warning("%s: not connected: %s; trying again until it is", self.url, status.reason)
        for listener in list(self._listeners):
            try:
                listener(status)
            except Exception as error:  # noqa: BLE001  a listener's fault is not the connection's
                self._loop.call_exception_handler({"message": "a status listener failed", "exception": error})

    def _change(self, state: State) -> None:
        self._state = state
        self._changed.set()

    def _save(self, cursors: dict[str, Cursor]) -> None:
        self._stored.update(cursors)
        try:
            self._store.save(cursors)
        except OSError as error:
            self._tell(Problem("cursors_not_saved", str(error)))

    def _arm(self) -> None:
        """Set the timer, unless it rings earlier: then it is set anew."""
        at = self._session.deadline() if self._error is None else None
        if at is None:
            return
        at = max(at, self._loop.time() + TIMER_STEP_S)
        if self._timer is None or self._timer.when() > at:
            self._disarm()
            self._timer = self._loop.call_at(at, self._on_time)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        self._session.tick(self._loop.time())
        if self._session.dead and self._socket is not None:
            self._socket.transport.abort()
        self._pump()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def state(self) -> State:
        """Where the connection stands now."""
        return self._state

    async def __aenter__(self) -> Self:
        """Connect, and stay connected."""
        self._loop = asyncio.get_running_loop()
        self._hurry = asyncio.Event()
        self._stored = dict(self._store.load())
        self._spawn(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Send the last acks, close the connection and stop. Calls that still wait raise `ClientStopped`."""
        self._session.flush(self._loop.time())
        socket = self._socket
        if socket is not None and self._session.phase == "online":
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_S):
                    for message in self._session.outgoing(self._loop.time()):
                        await socket.send(message)
        self._session.stop(ClientStopped(0, "closed by the application"))
        self._pump()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._disarm()

    async def wait_online(self) -> None:
        """Wait until the server has accepted the token.

        Raises:
            ClientStopped: the client has stopped, so it never will be.
        """
        while self._state != "online":
            self._raise_if_stopped()
            self._changed.clear()
            await self._changed.wait()

    async def wait_stopped(self) -> ClientStopped:
        """Wait until the client has stopped for good; returns the reason."""
        while self._error is None:
            self._changed.clear()
            await self._changed.wait()
        return self._error

    def _raise_if_stopped(self) -> None:
        if self._error is not None:
            raise self._error

    def reconnect_now(self) -> None:
        """Try to connect now, for example when the network is back or the user pressed a button."""
        self._hurry.set()

    def on_status(self, listener: Callable[[Status], None]) -> Callable[[], None]:
        """Call `listener` with each status of the connection; returns a function that ends this."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def events(
        self, stream: str, after: After | None = None, *, first: After = "head", log: str = ""
    ) -> Events:
        """The events of a stream, one at a time.

        Args:
            stream: its name. A stream has one consumer at a time.
            after: where to begin; None: behind the cursor in the store. A number counts in the log `log`, or
                in the server's present one.
            first: where to begin if the store has no cursor for this stream.
            log: the id of the log that a number in `after` belongs to.

        Raises:
            StreamInUse: the stream has a consumer.
            ClientStopped: the client has stopped.
        """
        return self._subscribe(Events(stream, self), after, first, log)

    def batches(
        self, stream: str, after: After | None = None, *, first: After = "head", log: str = ""
    ) -> Batches:
        """As `events`, in whole runs as they arrived: faster, and each run can be one transaction."""
        return self._subscribe(Batches(stream, self), after, first, log)

    def _subscribe[S: Subscription](self, subscription: S, after: After | None, first: After, log: str) -> S:
        self._raise_if_stopped()
        stream = subscription.stream
        cursor = None
        if after is None:
            cursor = self._session.left_at(stream) or self._stored.get(stream)
        elif isinstance(after, int) and log:
            cursor = Cursor(log, after)
        self._session.subscribe(stream, first if after is None else after, cursor, self._loop.time())
        self._subscriptions[stream] = subscription
        self._pump()
        return subscription

    def take(self, stream: str) -> Item | None:
        """The next item for its consumer; None if there is none now."""
        item = self._session.take(stream)
        if isinstance(item, Snapshot):
            self.snapshots[stream] = item
        return item

    def processed(self, stream: str, era: int, seq: int) -> None:
        """The consumer has processed all events up to `seq`."""
        if self._session.processed(stream, era, seq, self._loop.time()):
            self._pump()

    def release(self, subscription: Subscription) -> None:
        """The consumer is gone."""
        if self._error is not None:
            return
        if self._subscriptions.get(subscription.stream) in {None, subscription}:
            self._subscriptions.pop(subscription.stream, None)
            self.snapshots.pop(subscription.stream, None)
            self._session.unsubscribe(subscription.stream, self._loop.time())
            self._pump()

    async def wait_for(self, at: Mapping[str, Any] | None) -> None:
        """Read your writes: wait until the event that a reply names in `at` has been processed.

        If the stream has no consumer, wait until the event has arrived. None returns at once. Do not call
        this inside the loop that consumes the same stream.

        Raises:
            NotSubscribed: the client does not follow the stream.
            LogReplaced: the server's log was replaced.
            StreamDenied: the stream may not be read any more.
            ClientStopped: the client has stopped.
        """
        if at is None:
            return
        self._raise_if_stopped()
        token = self._session.wait_for(at["stream"], at["seq"])
        try:
            await self._answer_to(token)
        finally:
            self._session.stop_waiting(at["stream"], token)

    async def send(self, action: str, /, **fields: Any) -> dict[str, Any]:
        """Send a command (or query) and wait for its reply, across reconnects.

        A command is executed once. For a deadline, use `asyncio.timeout`: after that the command is not sent
        again, but it may have been executed.

        Raises:
            CommandError: the server refused it.
            QueueFull: too many commands wait.
            ClientStopped: the client stopped before the reply came; the outcome is unknown.
        """
        return await self.request(action, fields)

    async def request(
        self, action: str, fields: Mapping[str, Any], *, command_id: str | None = None
    ) -> dict[str, Any]:
        """As `send`. With the id of an earlier attempt in `command_id`, it returns that attempt's answer."""
        self._raise_if_stopped()
        if command_id in self._waiting:  # also if its answer is there, and its caller has yet to take it
            raise ValueError(f"{command_id} waits for its answer already")
        command_id = self._session.command(action, dict(fields), command_id)
        try:
            return cast("dict[str, Any]", await self._answer_to(command_id))
        finally:
            self._session.forget(command_id)

    async def _answer_to(self, key: Hashable) -> Any:
        self._waiting[key] = self._loop.create_future()
        self._pump()
        try:
            return await self._waiting[key]
        finally:
            del self._waiting[key]

    def job(self, job_id: int) -> WatchedJob:
        """A job of the service, to watch and to cancel; see `job`."""
        return WatchedJob(self, job_id)

    def pages(self, action: str, /, **fields: Any) -> AsyncIterator[dict[str, Any]]:
        """The replies of a query that answers page by page; see `subscription.pages`."""
        return pages(self.request, action, fields)


def _resolve(future: asyncio.Future[Any] | None, answer: Any) -> None:
    if future is None or future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
