"""The service's own WebSocket as an echo server, for suites that ask for one: each message comes back.

Complete text frames go past the library, as those of an authenticated client do; all others through it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.frames import Frame
from websockets.http11 import Request
from websockets.server import ServerProtocol

from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.wire.frame_reader import AckReader
from huahuo.transport.wire.lobby import Greeting, Lobby
from huahuo.transport.wire.ports import InLobby
from huahuo.transport.wire.sends import Sends
from huahuo.transport.wire.web_socket import WebSocket

MESSAGE_BYTES_MAX = 64 << 20
HEARD = Counter[str]()
"""Messages, and those of them that went through the library."""
TEXT = 0x81
BINARY = 0x82


class _EchoSocket(WebSocket):
    """A socket that says of what kind the messages are, and counts them."""

    is_binary = False

    def _take(self, messages: list[bytes], *, binary: bool = False) -> None:
        self.is_binary = binary
        HEARD["all"] += len(messages)
        super()._take(messages, binary=binary)

    def _add_fragment(self, frame: Frame) -> None:
        HEARD["slow"] += frame.fin
        super()._add_fragment(frame)


class Echo:
    """Implements `Listener`: sends back what it hears."""

    is_busy = False
    quick_acks = None

    def __init__(self, ws: _EchoSocket) -> None:
        self._ws = ws

    def took(self, text: bytes) -> bool:
        """See `Listener`."""
        del text
        return False

    def heard(self, texts: list[bytes]) -> int:
        """See `Listener`."""
        for text in texts:
            self._ws.write(_frame(text, BINARY if self._ws.is_binary else TEXT))
        return len(texts)

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

    def lost(self) -> None:
        """See `Listener`."""


class EchoHost:
    """In place of the service: it counts nothing, and echoes. Implements `Owner` and `Greeter`."""

    def __init__(self) -> None:
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

    def ended(self, socket: InLobby) -> None:
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
        ws = _EchoSocket(
            greeting.transport, owner=self, settings=self._settings, sends=self._sends,
            ack_reader=self._ack_reader,
        )  # fmt: skip
        ws.trust()
        ws.listener = Echo(ws)
        greeting.transport.set_protocol(ws)
        if behind:
            ws.data_received(behind)


@asynccontextmanager
async def echo_server() -> AsyncIterator[str]:
    """`HOST:PORT` of an echo server."""
    host = EchoHost()
    server = await asyncio.get_running_loop().create_server(host.greeting, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def _frame(text: bytes, kind: int = TEXT) -> bytes:
    size = len(text)
    if size < 126:
        head = bytes([kind, size])
    elif size < 1 << 16:
        head = bytes([kind, 126]) + size.to_bytes(2)
    else:
        head = bytes([kind, 127]) + size.to_bytes(8)
    return head + text
