"""The service's own WebSocket as an echo server, for suites that ask for one: each message comes back.

Complete text frames go past the library, as those of an authenticated client do; all others through it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from websockets.exceptions import ConnectionClosed

from huahuo.actors.plugins.words import Words
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.session.outgoing import Speech
from huahuo.transport.wire.frame_reader import AckReader
from huahuo.transport.wire.ports import Heard, InLobby
from huahuo.transport.wire.sends import Sends
from huahuo.transport.wire.server_protocol import OpeningProtocol
from huahuo.transport.wire.web_socket import WebSocket

MESSAGE_BYTES_MAX = 64 << 20
TEXT = 0x81


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
    """In place of the service: it counts nothing, and its handler echoes."""

    def __init__(self) -> None:
        self.handler_tasks: set[asyncio.Task[None]] = set()
        self.quick = self.slow = 0
        """Messages that were heard past the library, and through it."""

    def is_serving(self) -> bool:
        """See the library."""
        return True

    def connected(self, socket: InLobby) -> None:
        """See `Owner`."""

    def holds(self, socket: InLobby, held_bytes: int) -> None:
        """See `Owner`."""

    def authenticated(self, socket: InLobby) -> None:
        """See `Owner`."""

    def disconnected(self, socket: InLobby) -> None:
        """See `Owner`."""

    async def handler(self, ws: WebSocket) -> None:
        """Shake hands, and echo until the end."""
        task = asyncio.current_task()
        with suppress(ConnectionClosed, OSError):
            await ws.handshake(None, None, None)
            echo = ws.listener = Echo(ws)
            ws.trust()
            ws.begin()
            try:
                async for message in ws:
                    self.slow += 1
                    ws.handed_over()
                    await ws.send(message)
            finally:
                self.quick += echo.quick
                ws.transport.close()
        if task is not None:
            self.handler_tasks.discard(task)


@asynccontextmanager
async def echo_server() -> AsyncIterator[tuple[str, EchoHost]]:
    """`HOST:PORT` of an echo server, and what counts its messages."""
    host = EchoHost()
    settings = TransportSettings(message_bytes_max=MESSAGE_BYTES_MAX, reply_bytes_max=MESSAGE_BYTES_MAX)
    sends = Sends("transport")

    def socket() -> WebSocket:
        protocol = OpeningProtocol(Speech(Words(), "en"), max_size=MESSAGE_BYTES_MAX)
        return WebSocket(
            protocol, host, ping_interval=None, close_timeout=10, max_queue=16,
            owner=host, settings=settings, sends=sends, ack_reader=AckReader(time.monotonic),
        )  # fmt: skip

    server = await asyncio.get_running_loop().create_server(socket, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", host
    finally:
        server.close()
        for task in list(host.handler_tasks):
            task.cancel()


def _frame(text: bytes) -> bytes:
    size = len(text)
    if size < 126:
        head = bytes([TEXT, size])
    elif size < 1 << 16:
        head = bytes([TEXT, 126]) + size.to_bytes(2)
    else:
        head = bytes([TEXT, 127]) + size.to_bytes(8)
    return head + text
