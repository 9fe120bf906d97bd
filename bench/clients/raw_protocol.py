"""A connection from a loopback address that is one protocol object. What it speaks is its subclasses'."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

OPEN_TIMEOUT_S = 20.0


class RawProtocol(asyncio.Protocol):
    """`is_open`: whether messages can be sent."""

    is_open = False
    _transport: asyncio.Transport

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


async def connected[P: RawProtocol](
    make: Callable[[], P], port: int, *, address: str, receive_bytes: int = 0
) -> P:
    """Open one from `address`; `receive_bytes` bounds the kernel's receive buffer. Raises OSError."""
    sock = socket.socket()
    sock.setblocking(False)
    try:
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.bind((address, 0))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", port))
        _, made = await loop.create_connection(make, sock=sock)
    except BaseException:
        sock.close()
        raise
    return made
