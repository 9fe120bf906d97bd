"""The client's socket: opened with the application's token, and used until it ends. `session` decides."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from typing import Any, Literal, cast

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from huahuo.transport.client.inflow import Receiver
from huahuo.transport.client.model import ClientStopped, Problem, ProtocolViolation
from huahuo.transport.client.session import ClientSession
from huahuo.transport.client.socket import close_socket, open_socket
from huahuo.transport.protocol.codes import CloseCode

type TokenSource = Callable[[], str | Awaitable[str]]


class Tokens:
    """The application's token: a fixed one, or what its function returns.

    Raises:
        ValueError: both were given, or neither.
    """

    def __init__(self, token: str | None, source: TokenSource | None) -> None:
        if (token is None) == (source is None):
            raise ValueError("give either `token` or `get_token`")
        self.token = token
        self._source = source

    @property
    def renewable(self) -> bool:
        """Whether another token can be had."""
        return self._source is not None

    async def renew(self) -> bool:
        """Get a token from the application. Returns whether it is a new one. Raises as its function."""
        if self._source is None:
            return False
        before, given = self.token, self._source()
        self.token = await given if isawaitable(given) else given
        return self.token != before


class Line:
    """One socket after the other to the server at `url`."""

    def __init__(
        self, url: str, session: ClientSession, tokens: Tokens, *,
        compression: bool, open_timeout_s: float, proxy: str | Literal[True] | None,
        pump: Callable[[], None], arm: Callable[[], None], problem: Callable[[Problem], None],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:  # fmt: skip
        """`pump` hands on what the session says, `arm` sets the timer for its deadline."""
        self.socket: ClientConnection | None = None
        self.write = asyncio.Event()
        """Set: the session may have messages to send."""
        self._url = url
        self._session = session
        self._tokens = tokens
        self._open_timeout_s = open_timeout_s
        self._proxy = proxy
        self._receiver = Receiver(url, compression and not proxy, timeout_s=open_timeout_s)
        self._pump = pump
        self._arm = arm
        self._problem = problem
        self._spawn = spawn

    async def use_once(self) -> tuple[int | None, str]:
        """Open a connection and use it until it ends. The close code (None: no close came) and the reason."""
        try:
            token = await self._current_token()
        except Exception as error:  # noqa: BLE001  the application's own function
            return None, f"no token: {type(error).__name__}"
        if self._session.phase == "stopped":
            return None, ""
        try:
            socket = await self._open()
        except InvalidStatus as error:
            too_many = error.response.status_code == 429  # noqa: PLR2004  Too Many Requests
            return CloseCode.TOO_MANY_CONNECTIONS if too_many else None, str(error)
        except (OSError, TimeoutError, WebSocketException) as error:
            return None, f"{type(error).__name__}: {error}"
        return await self._use(socket, token)

    async def _open(self) -> ClientConnection:
        return await open_socket(
            self._url, self._receiver.offered, timeout_s=self._open_timeout_s, proxy=self._proxy
        )

    async def _use(self, socket: ClientConnection, token: str) -> tuple[int | None, str]:
        self.socket = socket
        try:
            if socket.subprotocol not in self._receiver.offered:
                return CloseCode.UNSUPPORTED_VERSION, "the server speaks nothing that was offered"
            return await self._converse(socket, token)
        finally:
            self.socket = None
            await close_socket(socket)

    async def _converse(self, socket: ClientConnection, token: str) -> tuple[int | None, str]:
        loop = asyncio.get_running_loop()
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
            self._problem(Problem("protocol_violation", str(error)))
            return None, str(error)
        finally:
            writer.cancel()

    async def _send_all(self, socket: ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionClosed):  # the reader raises it too
            while True:
                await self.write.wait()
                self.write.clear()
                for message in self._session.outgoing(loop.time()):
                    await socket.send(message)
                self._arm()

    async def _current_token(self) -> str:
        needed = self._tokens.token is None or self._session.needs_token
        if self._tokens.renewable and needed and not await self._tokens.renew():
            expired = "the token has expired and no new one was given"
            self._session.stop(ClientStopped(CloseCode.TOKEN_EXPIRED, expired))
        return cast("str", self._tokens.token)
