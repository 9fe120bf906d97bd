"""One Unix socket between the owner and a worker: messages in order, written together once per loop turn.

A commit, and what waits before it, is written at once.

A message is its length in four bytes, then its bytes. What waits to be sent is bounded: a peer that
does not read is given up at that bound, because its clients can continue with another worker.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final, cast

import msgspec
import structlog

from huahuo.transport.workers.messages import encode

WAITING_BYTES_MAX: Final = 64 << 20
"""What may wait to be sent to a peer."""
_MESSAGE_BYTES_MAX: Final = 512 << 20
_SENT_BYTES: Final = 1 << 20
"""What the kernel holds for a peer, as far as it allows: a large commit leaves in one piece."""
_LENGTH: Final = struct.Struct(">I")

_log = structlog.get_logger(__name__)


class Pipe(asyncio.Protocol):
    """See the module. `take` gets each message; `lost` is called once, when the pipe is over."""

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[object],
        take: Callable[[object], None],
        lost: Callable[[], None],
    ) -> None:
        self._decode = decoder.decode
        self._take = take
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._came = bytearray()
        self._waiting: list[bytes] = []
        self._over = False

    async def open(self, sock: socket.socket) -> None:
        """Begin to read and write."""
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT_BYTES)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=sock)

    @property
    def is_open(self) -> bool:
        """Whether the peer is there."""
        return not self._over

    @property
    def waiting_bytes(self) -> int:
        """What waits to be sent."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, message: object) -> None:
        """Send a message in this turn of the loop."""
        self.send_encoded(encode(message))

    def send_encoded(self, data: bytes) -> None:
        """As `send`, for a message that goes to several peers."""
        if self._over:
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting += (_LENGTH.pack(len(data)), data)

    def send_at_once(self, data: bytes) -> None:
        """As `send_encoded`, without waiting for those who have the loop before the turn's end."""
        self.send_encoded(data)
        self._flush()

    def close(self) -> None:
        """End it; what was sent is still written."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
        self._end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        came = self._came
        came += data
        at, end = 0, len(came)
        while end - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(came, at)
            if size > _MESSAGE_BYTES_MAX:
                self._fail("a message is too long")
                return
            if end - at - _LENGTH.size < size:
                break
            at += _LENGTH.size
            body = bytes(memoryview(came)[at : at + size])
            at += size
            if not self._handle(body):
                return
        if at:
            del came[:at]

    def connection_lost(self, _exc: Exception | None) -> None:
        """The peer is gone."""
        self._end()

    def _handle(self, body: bytes) -> bool:
        try:
            message = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._fail(str(error))
            return False
        try:
            self._take(message)
        except Exception:  # noqa: BLE001  one message's fault is not that of the others
            _log.exception("message_failed", message=type(message).__name__)
        return not self._over

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        transport = self._transport
        if transport is None or self._over or not waiting:
            return
        transport.write(b"".join(waiting))
        if transport.get_write_buffer_size() > WAITING_BYTES_MAX:
            self._fail("it reads too slowly")

    def _fail(self, why: str) -> None:
        _log.error("pipe_given_up", reason=why)
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._waiting.clear()
            self._lost()
