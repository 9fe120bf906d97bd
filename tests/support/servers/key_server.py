"""An issuer's key server on this machine, which answers what the test says. `requests` counts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Keys:
    """What it answers now. `down`: it closes each connection at once."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.down = False
        self.requests = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.down:
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % len(self.body) + self.body)
        writer.close()


@asynccontextmanager
async def key_server(body: bytes) -> AsyncIterator[Keys]:
    """A server with this key set."""
    keys = Keys(body)
    server = await asyncio.start_server(keys.serve, "127.0.0.1", 0)
    keys.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    try:
        yield keys
    finally:
        server.close()
        await server.wait_closed()
