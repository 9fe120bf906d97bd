"""An HTTP client made of one protocol object: one request at a time on a connection that stays open.

It counts answers by their status, and bytes of an answer without an end (server-sent events) are dropped.
"""

import asyncio
from collections.abc import Callable
from typing import Self

from bench.clients.raw_protocol import OPEN_TIMEOUT_S, RawProtocol, connected


class PlainHttp(RawProtocol):
    """`on_status` is called when the head of an answer came, `on_lost` once at the end."""

    def __init__(self, on_status: Callable[[int], None], on_lost: Callable[[], None]) -> None:
        self._on_status = on_status
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._rest = 0
        """Bytes of the answer's body that have not come; -1: it has no end."""
        self._answered: asyncio.Event = asyncio.Event()

    @classmethod
    async def connect(
        cls, port: int, on_status: Callable[[int], None], on_lost: Callable[[], None], *, address: str
    ) -> Self:
        """Open one from `address`, a loopback address. Raises OSError, TimeoutError."""
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            return await connected(lambda: cls(on_status, on_lost), port, address=address)

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
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._rest < 0:
            return
        if self._rest:
            self._rest -= len(data)
            self._end_answer()
            return
        self._buffer += data
        head, end, body = bytes(self._buffer).partition(b"\r\n\r\n")
        if not end:
            return
        self._buffer.clear()
        lower = head.lower()
        found = lower.partition(b"content-length:")[2].partition(b"\r")[0].strip()
        self._rest = int(found) - len(body) if found else -1 if b"chunked" in lower else 0
        self._on_status(int(head[9:12]))
        self._end_answer()

    def _end_answer(self) -> None:
        if self._rest == 0:
            self._answered.set()
