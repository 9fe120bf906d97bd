"""The transport of a `WebSocket` that an ASGI server has, and what waits for that server to take it.

A `WebSocket` reads and writes frames; here they are made and taken apart again, because ASGI servers frame by
themselves. What many connections get is taken apart once. Pings are the ASGI server's: one of ours counts
as answered if the server takes what we send, so a client is silent only if that server says so.

`send` of ASGI waits while the socket's own buffer is full, so what is written meanwhile waits in
`OutQueue`.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from websockets.exceptions import ProtocolError
from websockets.frames import Close

from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.frames import BINARY, TEXT, unframed
from huahuo.transport.wire.frame_reader import masked_frame
from huahuo.transport.wire.web_socket import WebSocket

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


_CLOSE: Final = 0x88
_PONG: Final = 0x8A


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
        """Each message in `frame` as ASGI has it, with its size. Pings and pongs are left out."""
        if frame is not self._frame:
            self._messages = [
                (_message(kind, payload), len(payload))
                for kind, payload in unframed(frame)
                if kind in (TEXT, BINARY, _CLOSE)
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
    if kind == BINARY:
        return {"type": "websocket.send", "bytes": payload}
    said = Close.parse(payload)
    return {"type": "websocket.close", "code": said.code, "reason": said.reason}


class AsgiWire(asyncio.Transport):
    """In place of the transport of a `WebSocket`, whose frames an ASGI server makes and reads.

    `abort` is called where no close is possible.
    """

    __slots__ = ("_abort", "_resumed", "_socket", "_unwrapped", "out")

    def __init__(self, unwrapped: Unwrapped, abort: Callable[[], None]) -> None:
        super().__init__()
        self._unwrapped = unwrapped
        self._abort = abort
        self._resumed: asyncio.Future[None] | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """The socket whose frames it takes."""
        assert isinstance(protocol, WebSocket), "no other one speaks frames"
        self._socket = protocol
        self.out = OutQueue(protocol.pause_writing, protocol.resume_writing)

    def write(self, data: Any) -> None:
        """Take the messages in a frame. A ping is the ASGI server's business."""
        messages = self._unwrapped.messages(data)
        for message, size in messages:
            if message["type"] == "websocket.close":
                self.out.end(message)
            else:
                self.out.put(message, size)
        if not messages and not self.out.unsent_bytes:
            asyncio.get_running_loop().call_soon(self._socket.data_received, masked_frame(_PONG, b""))

    def can_write_eof(self) -> bool:
        """See `asyncio.Transport`."""
        return False

    def get_write_buffer_size(self) -> int:
        """See `asyncio.Transport`."""
        return self.out.unsent_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See `asyncio.Transport`."""
        del low
        assert high is not None, "a socket bounds its buffer"
        self.out.bound(high)

    def is_closing(self) -> bool:
        """See `asyncio.Transport`."""
        return self.out.ended

    def pause_reading(self) -> None:
        """See `asyncio.Transport`."""
        self._resumed = asyncio.get_running_loop().create_future()

    def resume_reading(self) -> None:
        """See `asyncio.Transport`."""
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)
        self._resumed = None

    def close(self) -> None:
        """Send nothing more."""
        self.out.end(None)

    def abort(self) -> None:
        """See `asyncio.Transport`."""
        self.close()
        self._abort()

    async def read(self, receive: Receive) -> None:
        """Hand in what the ASGI server brings, until the client is gone."""
        while True:
            if self._resumed is not None:
                await self._resumed
            message = await receive()
            if message["type"] != "websocket.receive":
                break
            text: str | None = message.get("text")
            frame = (
                masked_frame(BINARY, message.get("bytes") or b"")
                if text is None
                else masked_frame(TEXT, text.encode())
            )
            self._socket.data_received(frame)
        self.close()
        with contextlib.suppress(ProtocolError):  # no close frame has such a code
            closed = Close(int(message.get("code") or CloseCode.LOST), "")
            self._socket.data_received(masked_frame(_CLOSE, closed.serialize()))
