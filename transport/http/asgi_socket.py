"""A WebSocket that an ASGI server has, as a connection sees it, and what waits for that server to take it.

The connection writes WebSocket frames; here they are taken apart again, because ASGI servers frame by
themselves. What many connections get is taken apart once. Pings are the ASGI server's: one of ours counts
as answered if the server takes what we send, so a client is silent only if that server says so.

`send` of ASGI waits while the socket's own buffer is full, so what is written meanwhile waits in
`OutQueue`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from huahuo.transport.http.event_socket import UnframedSocket
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.frames import BINARY, TEXT, text_frame, unframed
from huahuo.transport.server.server import Server
from huahuo.transport.wire.lobby import Aborted
from huahuo.transport.words import en

type Message = dict[str, Any]
type Send = Callable[[Message], Awaitable[None]]
type Receive = Callable[[], Awaitable[Message]]

_LOW_WATER = 4


class OutQueue:
    """What waits for an ASGI server to take it: the write buffer of a socket that another server has.

    `filled` is called when it becomes full, and `drained` when it has room again.
    """

    __slots__ = (
        "_begin", "_bytes_max", "_drained", "_filled", "_items", "_paused", "_wake", "ended", "unsent_bytes",
    )  # fmt: skip

    def __init__(
        self,
        filled: Callable[[], None],
        drained: Callable[[], None],
        begin: Callable[[], None] | None = None,
    ) -> None:
        """`begin` is called when there is something to send, or the end: `flush` must follow.

        Without it, `run` waits all the time. That is a task with its frames, some KiB, for each connection.
        """
        self._items: deque[tuple[Message, int]] | None = None  # an empty one takes 760 bytes
        self._filled = filled
        self._drained = drained
        self._begin = begin
        self._bytes_max = 1 << 16
        self.ended = False
        self._paused = False
        self._wake: asyncio.Future[None] | None = None
        self.unsent_bytes = 0

    @property
    def paused(self) -> bool:
        """Whether it is full, or was and has not been emptied to a quarter."""
        return self._paused

    def bound(self, bytes_max: int) -> None:
        """Be full from `bytes_max` on."""
        self._bytes_max = bytes_max

    def put(self, message: Message, size: int) -> None:
        """Send this after all that waits. Nothing more is taken after `end`."""
        if self.ended:
            return
        if self._items is None:
            self._items = deque()
        self._items.append((message, size))
        self.unsent_bytes += size
        self._awake()
        if not self._paused and self.unsent_bytes > self._bytes_max:
            self._paused = True
            self._filled()

    def end(self, message: Message | None) -> None:
        """Send this as the last message."""
        if message is not None:
            self.put(message, 0)
        self.ended = True
        self._awake()

    async def run(self, send: Send) -> None:
        """Send everything, until `end`. Raises as `send`."""
        while True:
            await self.flush(send)
            if self.ended:
                return
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake

    async def flush(self, send: Send) -> None:
        """Send what waits. Raises as `send`."""
        while self._items:
            message, size = self._items.popleft()
            await send(message)
            self.unsent_bytes -= size
            if self._paused and self.unsent_bytes <= self._bytes_max // _LOW_WATER:
                self._paused = False
                self._drained()
        self._items = None

    def _awake(self) -> None:
        if self._begin is not None:
            self._begin()
        elif self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


_ACK_CHARS_MAX: Final = 125
_CLOSE_REASON_BYTES_MAX: Final = 120


class Unwrapped:
    """The messages in frames; the last frame's are remembered until the loop's next turn.

    A hand-out gives one frame to many sockets in a turn. A frame may also be the state of one user, of up to
    16 MiB, which nothing should hold for longer.
    """

    __slots__ = ("_forgets", "_frame", "_messages")

    def __init__(self) -> None:
        self._frame = b""
        self._messages: list[tuple[Message, int]] = []
        self._forgets = False

    def messages(self, frame: bytes) -> list[tuple[Message, int]]:
        """Each message in `frame` as ASGI has it, with its size. Pings are left out."""
        if frame is not self._frame:
            self._messages = [
                (_message(kind, payload), len(payload))
                for kind, payload in unframed(frame)
                if kind in (TEXT, BINARY)
            ]
            self._frame = frame
            if not self._forgets:
                self._forgets = True
                asyncio.get_running_loop().call_soon(self._forget)
        return self._messages

    def _forget(self) -> None:
        self._forgets, self._frame, self._messages = False, b"", []


def _message(kind: int, payload: bytes) -> Message:
    if kind == TEXT:
        return {"type": "websocket.send", "text": payload.decode()}
    return {"type": "websocket.send", "bytes": payload}


class AsgiSocket(UnframedSocket):
    """A WebSocket that an ASGI server has, as a connection sees it.

    Implements `wire.ports.Socket`. `abort` is called where no close is possible.
    """

    __slots__ = (
        "_abort", "_closing", "_deadline", "_held_bytes", "_if_too_large", "_receive", "_server",
        "_settings", "_unwrapped", "out",
    )  # fmt: skip

    def __init__(
        self,
        receive: Receive,
        abort: Callable[[], None],
        *,
        server: Server,
        settings: TransportSettings,
        unwrapped: Unwrapped,
        address: str,
        root: str,
    ) -> None:
        self.out = OutQueue(self.filled, self.drained)
        super().__init__(self.out, address, root=root)
        self._receive = receive
        self._abort = abort
        self._server = server
        self._settings = settings
        self._unwrapped = unwrapped
        self._closing = False
        self._held_bytes = 0
        self._if_too_large: Sequence[bytes] = ()
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def transport(self) -> Aborted:
        """See `Socket`."""
        return self

    def trust(self, if_too_large: Sequence[bytes] = ()) -> None:
        """See `Socket`."""
        self._if_too_large = if_too_large
        if not self.trusted:
            self.trusted = True
            self._server.authenticated(self)

    def handled(self) -> None:
        """See `Socket`."""
        if not self.trusted and self._held_bytes:
            self._held_bytes = 0
            self._server.holds(self, 0)

    def write(self, frame: bytes) -> None:
        """See `Socket`."""
        if not self._open:
            return
        messages = self._unwrapped.messages(frame)
        for message, size in messages:
            self.out.put(message, size)
        if not messages and not self.out.unsent_bytes and self.listener is not None:
            self.listener.ponged()

    def end(self, code: int, reason: str, deadline_s: float) -> None:
        """See `Socket`."""
        if self._open:
            self._open, self._closing = False, True
            self.close_code = code
            short = reason.encode()[:_CLOSE_REASON_BYTES_MAX].decode(errors="ignore")
            self.out.end({"type": "websocket.close", "code": int(code), "reason": short})
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(deadline_s, self._abort)

    def abort(self) -> None:
        """See `Aborted`."""
        self._open = False
        self._abort()

    async def recv(self) -> str | bytes | None:
        """See `Socket`. An ack needs no turn of the connection."""
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                self._lost(int(message.get("code") or CloseCode.LOST))
                return None
            text: str | None = message.get("text")
            data: str | bytes = message.get("bytes") or b"" if text is None else text
            if self._closing:
                continue  # our close is on its way; what came before the peer's is still handled
            if not self._fits(data):
                self.write(b"".join(map(text_frame, self._if_too_large)))
                self.end(CloseCode.TOO_LARGE, en.MESSAGE_TOO_LARGE, self._settings.close_timeout_s)
                continue
            listener = self.listener
            if (
                text is None
                or listener is None
                or len(text) > _ACK_CHARS_MAX
                or not listener.took(text.encode())
            ):
                return data

    def sent(self, sending: asyncio.Future[None]) -> None:
        """Nothing is sent any more. If the server gave up, the client is gone; else all is sent."""
        if not sending.cancelled() and sending.exception() is not None:
            self._lost(CloseCode.LOST)

    def gone(self) -> None:
        """The ASGI server has no more business with it."""
        self._open = False
        if self._deadline is not None:
            self._deadline.cancel()
        self.out.end(None)

    def _fits(self, data: str | bytes) -> bool:
        size = len(data)
        if self.trusted:
            return size <= self._settings.message_bytes_max
        self._held_bytes += size
        self._server.holds(self, self._held_bytes)
        return size <= self._settings.first_bytes_max

    def _lost(self, code: int) -> None:
        self._open = False
        if self.close_code is None:
            self.close_code = code
        self.out.end(None)  # else a sender waits until the close times out
        if self.listener is not None:
            self.listener.disconnected()
