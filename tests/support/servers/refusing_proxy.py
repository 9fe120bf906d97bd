"""A proxy that lets no WebSocket through: it refuses upgrades and passes everything else on.

async with refusing_proxy(server.port) as proxy:
    proxy.port, proxy.refused
    proxy.cut()                      # every connection ends at once
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.patience import WITHIN_S


class RefusingProxy:
    """See the module. `refused` counts the upgrades that were asked for; `refuses` may be switched off."""

    def __init__(self, target: int) -> None:
        self.refused = 0
        self.refuses = True
        self.port = 0
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if self.refuses and b"upgrade: websocket" in head.lower():
                self.refused += 1
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
            else:
                await self._relay(head, reader, writer)
        writer.transport.abort()

    async def _relay(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ahead, behind = await asyncio.open_connection("127.0.0.1", self._target)
        behind.write(head)
        self._writers |= {writer, behind}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, behind))
                group.create_task(_copy(ahead, writer))
        finally:
            self._writers -= {writer, behind}
            behind.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@contextlib.asynccontextmanager
async def refusing_proxy(target: int) -> AsyncIterator[RefusingProxy]:
    """A running proxy in front of the port `target`."""
    proxy = RefusingProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        async with asyncio.timeout(WITHIN_S):
            await server.wait_closed()
