"""The port of a node that has nothing to serve yet: `/healthz` 200, and `/readyz` 503 with its progress.

It is closed until a node that needs it opens it: one with a replica goes straight on to listen by itself.
The service takes over its sockets as they listen (`hand_over`), so that no client is refused in between.
"""

import asyncio
import contextlib
import re
import socket
from typing import Final, Self

import structlog

from huahuo.app import shared_port

_HEAD_BYTES_MAX: Final = 8 << 10
_HEAD_S: Final = 5.0
_BACKLOG: Final = 128
_log = structlog.get_logger(__name__)


class WaitingRoom:
    """See the module. With port 0 its address could not be known, so it is not opened."""

    def __init__(self, host: str, port: int, processes: int = 1) -> None:
        """`processes`: how many take over the port, each with sockets of its own."""
        self.said = "starting"
        self._host = host
        self._port = port
        self._processes = processes
        self._sockets: list[list[socket.socket]] = []
        self._servers: list[asyncio.Server] = []
        self._asking: set[asyncio.StreamWriter] = set()
        self._logged = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Take the port, if that has not been done."""
        if not self._port or self._sockets:
            return
        with contextlib.suppress(OSError):  # the start itself says later that the port is taken
            self._sockets = await shared_port.bind(self._host, self._port, self._processes)
            for sock in (sock for of_one in self._sockets for sock in of_one):
                serving = await asyncio.start_server(
                    self._serve, sock=sock.dup(), limit=_HEAD_BYTES_MAX, backlog=_BACKLOG
                )  # it closes its copy
                self._servers.append(serving)

    async def hand_over(self) -> list[list[socket.socket]]:
        """The sockets of each process, which go on listening; none if it was not opened. It ends."""
        sockets, self._sockets = self._sockets, []
        for server in self._servers:
            server.close()
        for one in self._asking:  # a silent client must not delay the listening
            one.transport.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        return sockets

    async def close(self) -> None:
        """Leave the port. Nothing if it was handed over."""
        for sock in (sock for of_one in await self.hand_over() for sock in of_one):
            sock.close()

    def tell(self, text: str) -> None:
        """This is how far it is. The log has each kind of sentence once."""
        self.said = text
        kind = re.sub(r"\d+", "", text)
        if kind != self._logged:
            self._logged = kind
            _log.info("joining", said=text)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._asking.add(writer)
        try:
            async with asyncio.timeout(_HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            alive = head.startswith((b"GET /healthz ", b"HEAD /healthz "))
            status = b"200 OK" if alive else b"503 Service Unavailable"
            body = (b"ok" if alive else self.said.encode()) + b"\n"
            writer.write(
                b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"
                b"Retry-After: 1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(body), b"" if head.startswith(b"HEAD ") else body)
            )
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._asking.discard(writer)
            writer.close()
