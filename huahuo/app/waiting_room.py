"""The port of a node that has nothing to serve yet: `/healthz` 200, and `/readyz` 503 with its progress.

It is closed until a node that needs it opens it: one with a replica goes straight on to listen by itself.
"""

import asyncio
import contextlib
import re
from typing import Final, Self

import structlog

_HEAD_BYTES_MAX: Final = 8 << 10
_HEAD_S: Final = 5.0
_log = structlog.get_logger(__name__)


class WaitingRoom:
    """See the module. With port 0 its address could not be known, so it is not opened."""

    def __init__(self, host: str, port: int) -> None:
        self.said = "starting"
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._asking: set[asyncio.StreamWriter] = set()
        self._logged = ""

    async def __aenter__(self) -> Self:
        return self

    async def open(self) -> None:
        """Take the port, if that has not been done."""
        if self._port and self._server is None:
            with contextlib.suppress(OSError):  # the start itself says later that the port is taken
                self._server = await asyncio.start_server(
                    self._serve, self._host, self._port, limit=_HEAD_BYTES_MAX
                )

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            for one in self._asking:  # a silent client must not delay the listening
                one.transport.abort()
            await self._server.wait_closed()

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
