"""A TCP proxy that misbehaves on demand: cuts, goes silent, delays, cuts after a number of bytes.

Used between a client and the real server. It works on bytes, and of all protocols knows the upgrade of HTTP.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_CHUNK_BYTES = 65536


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: bytes in flight are lost too."""
    if not writer.transport.is_closing():
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@dataclass(eq=False)
class _Link:
    """One client connection and its counterpart to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def abort(self) -> None:
        """Reset both sides: no FIN handshake, no close frame."""
        for task in self.tasks:
            task.cancel()  # also the one that calls: it has nothing left to do
        _reset(self.client)
        _reset(self.server)


class ChaosProxy:
    """Forwards `127.0.0.1:port` to `target_port` until a test tells it to misbehave.

    Attributes:
        port: where it listens.
        accepted: how many connections came so far.
        silent: set while nothing is forwarded.
        delay_s: every chunk waits this long, in both directions.
        cut_after_bytes: each connection is reset after this many bytes from the server; None: never.
            May be changed between connections; a cut happens in the middle of a chunk.
        refused: how many upgrades to WebSockets were refused; None: they pass, as all else does.
    """

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self._target = (target_host, target_port)
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self.silent = asyncio.Event()
        self._left = 0
        """How many bytes of servers still pass before nothing does. 0: there is no bound."""
        self._refuse = False
        self._arrived = asyncio.Event()
        self.port = 0
        self.accepted = 0
        self.delay_s = 0.0
        self.cut_after_bytes: int | None = None
        self.refused: int | None = None

    @property
    def open(self) -> int:
        """How many connections stand now."""
        return len(self._links)

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Cut everything and stop listening."""
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset every connection, without a word in either direction."""
        for link in self._links:
            link.abort()

    def blackhole(self, after_bytes: int = 0) -> None:
        """Forward nothing from now on, without a notice to either side: bytes wait, sockets stay open.

        `after_bytes`: begin only when servers have sent this many bytes, over all connections.
        """
        self._left = after_bytes
        if not after_bytes:
            self._fall_silent()

    def heal(self) -> None:
        """Forward again, what waited first; accept again."""
        self._refuse = False
        self._left = 0
        self.silent.clear()
        self._flows.set()

    def refuse(self) -> None:
        """Reset new connections at once; those that stand stay."""
        self._refuse = True

    def redirect(self, target_port: int) -> None:
        """New connections go to another port: the server was restarted."""
        self._target = (self._target[0], target_port)

    async def connection(self, number: int) -> None:
        """Wait until connection `number` (1 is the first) has come."""
        while self.accepted < number:
            self._arrived.clear()
            await self._arrived.wait()

    def _fall_silent(self) -> None:
        self._flows.clear()
        self.silent.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuse:
            _reset(writer)
            return
        head = b""
        if self.refused is not None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower():
                self.refused += 1
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                writer.close()
                return
        try:
            from_server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        to_server.write(head)
        link = _Link(writer, to_server)
        link.tasks = [
            asyncio.create_task(self._forward(link, reader, to_server, None)),
            asyncio.create_task(self._forward(link, from_server, writer, self.cut_after_bytes)),
        ]
        self._links.add(link)
        self.accepted += 1
        self._arrived.set()
        await asyncio.gather(*link.tasks, return_exceptions=True)
        self._links.discard(link)
        for end in (writer, to_server):
            end.close()
            with contextlib.suppress(OSError):
                await end.wait_closed()

    async def _passing(self, source: asyncio.StreamReader, *, of_server: bool) -> AsyncIterator[bytes]:
        """What came from `source`, in pieces, each when it may pass."""
        while chunk := await source.read(_CHUNK_BYTES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            while chunk:
                await self._flows.wait()
                size = len(chunk)
                if of_server and self._left:
                    size = min(size, self._left)
                    self._left -= size
                    if not self._left:
                        self._fall_silent()
                yield chunk[:size]
                chunk = chunk[size:]

    async def _forward(
        self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, budget: int | None
    ) -> None:
        try:
            async for part in self._passing(source, of_server=sink is link.client):
                sink.write(part[:budget])
                await sink.drain()
                if budget is not None:
                    budget -= len(part)
                    if budget <= 0:
                        break
            else:
                with contextlib.suppress(OSError, RuntimeError):
                    sink.write_eof()  # a half close is passed on as one
                return
        except OSError:
            pass
        link.abort()


@asynccontextmanager
async def chaos_proxy(target_port: int, target_host: str = "127.0.0.1") -> AsyncIterator[ChaosProxy]:
    """A running proxy in front of `target_port`, stopped at the end."""
    proxy = ChaosProxy(target_port, target_host)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
