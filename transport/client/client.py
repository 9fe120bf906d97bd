"""The Python client: keeps one connection to a server alive and hands over each event once.

```python
async with Client("http://127.0.0.1:8765", token=token, client="worker-1") as client:
    reply = await client.send("check_emails", email_ids=[17])
```

See docs/python-client.md. This is what an application calls; `keeper` keeps the connection.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

from websockets.exceptions import ConnectionClosed

from huahuo.actors.plugins.words import Language
from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.transport.client.cursors import CursorStore, MemoryCursors
from huahuo.transport.client.job import WatchedJob
from huahuo.transport.client.keeper import Keeper
from huahuo.transport.client.line import Tokens, TokenSource
from huahuo.transport.client.model import (
    After,
    ClientStopped,
    Cursor,
    Item,
    Snapshot,
    State,
    Status,
)
from huahuo.transport.client.retry import Retry
from huahuo.transport.client.session import ClientSession
from huahuo.transport.client.socket import CLOSE_WITHIN_S, websocket_url
from huahuo.transport.client.subscription import Batches, Events, Subscription, pages


class Client(Keeper):
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
        super().__init__(
            websocket_url(url),
            session,
            tokens,
            cursors or MemoryCursors(),
            compression=compression,
            open_timeout_s=open_timeout_s,
            proxy=proxy,
        )
        self.snapshots: dict[str, Snapshot] = {}
        """The last snapshot handed to a consumer, by stream."""

    @property
    def state(self) -> State:
        """Where the connection stands now."""
        return self._standing.state

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Send the last acks, close the connection and stop. Calls that still wait raise `ClientStopped`."""
        self._session.flush(self._loop.time())
        socket = self._line.socket
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
        self._alarm.stop()

    async def wait_online(self) -> None:
        """Wait until the server has accepted the token.

        Raises:
            ClientStopped: the client has stopped, so it never will be.
        """
        await self._standing.wait_online()

    async def wait_stopped(self) -> ClientStopped:
        """Wait until the client has stopped for good; returns the reason."""
        return await self._standing.wait_stopped()

    def reconnect_now(self) -> None:
        """Try to connect now, for example when the network is back or the user pressed a button."""
        self._hurry.set()

    def on_status(self, listener: Callable[[Status], None]) -> Callable[[], None]:
        """Call `listener` with each status of the connection; returns a function that ends this."""
        return self._standing.listen(listener)

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
        self._standing.raise_if_stopped()
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
        """See `subscription.Source`."""
        item = self._session.take(stream)
        if isinstance(item, Snapshot):
            self.snapshots[stream] = item
        return item

    def processed(self, stream: str, era: int, seq: int) -> None:
        """See `subscription.Source`."""
        if self._session.processed(stream, era, seq, self._loop.time()):
            self._pump()

    def release(self, subscription: Subscription) -> None:
        """See `subscription.Source`."""
        if self._standing.error is not None:
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
        self._standing.raise_if_stopped()
        token = self._session.wait_for(at["stream"], at["seq"])
        future = self._reached.expect(token)
        self._pump()
        try:
            await future
        finally:
            self._session.stop_waiting(token)
            self._reached.forget(token)

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
        self._standing.raise_if_stopped()
        command_id = self._session.command(action, dict(fields), command_id)
        future = self._replies.expect(command_id)
        self._pump()
        try:
            return await future
        finally:
            self._session.forget(command_id)
            self._replies.forget(command_id)

    def job(self, job_id: int) -> WatchedJob:
        """A job of the service, to watch and to cancel; see `job`."""
        return WatchedJob(self, job_id)

    def pages(self, action: str, /, **fields: Any) -> AsyncIterator[dict[str, Any]]:
        """The replies of a query that answers page by page; see `subscription.pages`."""
        return pages(self.request, action, fields)
