"""Clients that are one protocol object each: no task, no library, so that thousands fit in a process.

`RawSocket` speaks WebSocket: it sends frames masked with zeros and hands over whole messages. `PlainHttp` has
one request at a time on a connection that stays open; it tells the status of answers and drops their bytes.
Both can stop reading. They know nothing of what the messages say.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Self, cast

OPEN_TIMEOUT_S = 20.0
_PING, _PONG, _CLOSE = 9, 0x8A, 8


def upgrade(path: str = "/", *, subprotocol: str = "") -> tuple[bytes, bytes]:
    """The HTTP request that opens a WebSocket, without compression, and the end of its answer."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode(), b"\r\n\r\n"


def frame(payload: bytes, *, binary: bool = False) -> bytes:
    """A client's frame, of text if it is not binary, masked with zeros."""
    first, size = 0x82 if binary else 0x81, len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + payload


class RawProtocol(asyncio.Protocol):
    """A connection from a loopback address. `is_open`: whether messages can be sent."""

    is_open = False
    _transport: asyncio.Transport

    async def open(self, port: int, address: str, receive_bytes: int = 0) -> None:
        """Connect from `address`; `receive_bytes` bounds the kernel's receive buffer. Raises OSError."""
        sock = socket.socket()
        sock.setblocking(False)
        try:
            if receive_bytes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            sock.bind((address, 0))
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.create_connection(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise

    def stop_reading(self) -> None:
        """Leave in the kernel's buffers what comes from now on."""
        if self.is_open:
            self._transport.pause_reading()

    def abort(self) -> None:
        """Be gone without a word."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)


class RawSocket(RawProtocol):
    """One connection. `on_message` is called with each text message, `on_lost` once at the end."""

    def __init__(self, on_message: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._upgraded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._room = asyncio.Event()
        self._room.set()

    @classmethod
    async def connect(
        cls,
        port: int,
        on_message: Callable[[bytes], None],
        on_lost: Callable[[], None],
        *,
        address: str = "127.0.0.1",
        receive_bytes: int = 0,
    ) -> Self:
        """Open one from `address`, a loopback address; `receive_bytes` bounds the kernel's receive buffer.

        Raises:
            OSError: refused, at the socket or by the answer to the upgrade. TimeoutError: not answered.
        """
        made = cls(on_message, on_lost)
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await made.open(port, address, receive_bytes)
            try:
                await made.upgraded()
            except BaseException:
                made.abort()
                raise
        return made

    async def upgraded(self) -> None:
        """Return when the server has answered the upgrade. Raises ConnectionRefusedError: with a refusal."""
        if not await self._upgraded:
            raise ConnectionRefusedError("the upgrade was refused")

    def send(self, message: bytes) -> None:
        """Send a text message; nothing happens where the connection is gone."""
        if self.is_open:
            self._transport.write(frame(message))

    async def room(self) -> None:
        """Return when the send buffer has room, or the connection is gone."""
        await self._room.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._transport.write(upgrade(subprotocol="huahuo.v1")[0])

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        del exc
        self.is_open = False
        self._room.set()
        if not self._upgraded.done():
            self._upgraded.set_result(False)
        self._on_lost()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._room.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._room.set()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        buffer = self._buffer
        buffer += data
        at = 0
        if not self.is_open:
            head, end, _ = bytes(buffer).partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head.partition(b"\r\n")[0]:
                self._transport.abort()
                return
            self.is_open = True
            if not self._upgraded.done():
                self._upgraded.set_result(True)
            at = len(head) + 4
        while (found := _whole_frame(buffer, at)) is not None:
            opcode, begin, at = found
            if opcode == _PING:
                self._transport.write(
                    bytes((_PONG, 0x80 | (at - begin))) + bytes(4) + bytes(buffer[begin:at])
                )
            elif opcode != _CLOSE:
                self._on_message(bytes(buffer[begin:at]))
        del buffer[:at]


def _whole_frame(buffer: bytearray, at: int) -> tuple[int, int, int] | None:
    """(opcode, first byte of the payload, first byte behind it) of the frame at `at`, if it is whole."""
    if len(buffer) < at + 2:
        return None
    size, begin = buffer[at + 1] & 127, at + 2
    if size >= 126:
        begin += 2 if size == 126 else 8
        if len(buffer) < begin:
            return None
        size = int.from_bytes(buffer[at + 2 : begin], "big")
    end = begin + size
    return (buffer[at] & 15, begin, end) if len(buffer) >= end else None


class PlainHttp(RawProtocol):
    """`on_status` is called when the head of an answer came."""

    def __init__(self, on_status: Callable[[int], None]) -> None:
        self._on_status = on_status
        self._buffer = bytearray()
        self._rest = 0
        """Bytes of the answer's body that have not come; -1: it has no end (server-sent events)."""
        self._answered = asyncio.Event()

    @classmethod
    async def connect(cls, port: int, on_status: Callable[[int], None], *, address: str) -> Self:
        """Open one from `address`, a loopback address. Raises OSError, TimeoutError."""
        made = cls(on_status)
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await made.open(port, address)
        return made

    def send(self, request: bytes) -> None:
        """Send a request; nothing happens where the connection is gone."""
        self._answered.clear()
        if self.is_open:
            self._transport.write(request)

    async def answered(self) -> None:
        """Return when the answer to the last request has come, or the connection is gone."""
        await self._answered.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        del exc
        self.is_open = False
        self._answered.set()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._rest < 0:
            return
        if self._rest:
            self._rest -= len(data)
        else:
            self._buffer += data
            head, end, body = bytes(self._buffer).partition(b"\r\n\r\n")
            if not end:
                return
            self._buffer.clear()
            lower = head.lower()
            found = lower.partition(b"content-length:")[2].partition(b"\r")[0].strip()
            self._rest = int(found) - len(body) if found else -1 if b"chunked" in lower else 0
            self._on_status(int(head[9:12]))
        if self._rest == 0:
            self._answered.set()
