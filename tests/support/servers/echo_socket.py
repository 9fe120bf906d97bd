"""The service's own WebSocket as an echo server, for suites that ask for one: each message comes back.

Complete text frames go past the library, as those of an authenticated client do; all others through it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.http11 import Request
from websockets.server import ServerProtocol

from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.wire.frame_reader import AckReader
from huahuo.transport.wire.lobby import Greeting, Lobby
from huahuo.transport.wire.ports import Heard, InLobby
from huahuo.transport.wire.sends import Sends
from huahuo.transport.wire.web_socket import WebSocket

MESSAGE_BYTES_MAX = 64 << 20
TEXT = 0x81
BINARY = 0x82


class Echo:
    """Implements `Listener`: sends back what it hears, unless it is not UTF-8, which the library refuses."""

    def __init__(self, ws: WebSocket) -> None:
        self._ws = ws
        self.quick = 0
        self.quick_acks = None

    def took(self, text: bytes) -> bool:
        """See `Listener`."""
        return self.heard([text])[0] == 1

    def heard(self, texts: list[bytes]) -> tuple[int, Heard]:
        """See `Listener`."""
        for count, text in enumerate(texts):
            try:
                text.decode()
            except UnicodeDecodeError:
                return count, Heard.QUEUE
            self._ws.write(_frame(text))
            self.quick += 1
        return len(texts), Heard.QUEUE

    def began(self, text: bytes) -> bool:
        """See `Listener`."""
        return self.took(text)

    def owes(self) -> bool:
        """See `Listener`."""
        return False

    def ponged(self) -> None:
        """See `Listener`."""

    def filled(self) -> None:
        """See `Listener`."""

    def drained(self) -> None:
        """See `Listener`."""

    def disconnected(self) -> None:
        """See `Listener`."""


class EchoHost:
    """In place of the service: it counts nothing, and echoes. Implements `Owner` and `Greeter`."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.quick = self.slow = 0
        """Messages that were heard at once, and by way of the reader."""
        self._lobby = Lobby(1 << 16, 60.0)
        self._sends, self._ack_reader = Sends("transport"), AckReader(time.monotonic)
        self._settings = TransportSettings(
            message_bytes_max=MESSAGE_BYTES_MAX, reply_bytes_max=MESSAGE_BYTES_MAX
        )

    def connected(self, socket: InLobby) -> None:
        """See `Owner`."""

    def holds(self, socket: InLobby, held_bytes: int) -> None:
        """See `Owner`."""

    def authenticated(self, socket: InLobby) -> None:
        """See `Owner`."""

    def disconnected(self, socket: InLobby) -> None:
        """See `Owner`."""

    def greeting(self) -> Greeting:
        """For a socket that was just accepted."""
        return Greeting(self, self._lobby)

    def spoke(self, greeting: Greeting, data: bytes) -> None:
        """See `Greeter`. Suites need not ask in the usual form."""
        self._lobby.leave(greeting)
        head, _, behind = data.partition(b"\r\n\r\n")
        library = ServerProtocol()
        library.receive_data(head + b"\r\n\r\n")
        (request,) = library.events_received()
        assert isinstance(request, Request)
        greeting.transport.write(library.accept(request).serialize())
        ws = WebSocket(
            greeting.transport, owner=self, settings=self._settings, sends=self._sends,
            ack_reader=self._ack_reader,
        )  # fmt: skip
        ws.trust()
        greeting.transport.set_protocol(ws)
        task = asyncio.get_running_loop().create_task(self._echo(ws))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if behind:
            ws.data_received(behind)

    async def _echo(self, ws: WebSocket) -> None:
        echo = ws.listener = Echo(ws)
        try:
            while (message := await ws.recv()) is not None:
                self.slow += 1
                ws.handed_over()
                ws.write(_frame(message.encode()) if isinstance(message, str) else _frame(message, BINARY))
        finally:
            self.quick += echo.quick
            ws.transport.close()


@asynccontextmanager
async def echo_server() -> AsyncIterator[tuple[str, EchoHost]]:
    """`HOST:PORT` of an echo server, and what counts its messages."""
    host = EchoHost()
    server = await asyncio.get_running_loop().create_server(host.greeting, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", host
    finally:
        server.close()
        for task in list(host.tasks):
            task.cancel()


def _frame(text: bytes, kind: int = TEXT) -> bytes:
    size = len(text)
    if size < 126:
        head = bytes([kind, size])
    elif size < 1 << 16:
        head = bytes([kind, 126]) + size.to_bytes(2)
    else:
        head = bytes([kind, 127]) + size.to_bytes(8)
    return head + text
