"""A connection of `bench storms` that asks over plain HTTP. See `storm_driver`."""

import asyncio
import contextlib
from collections import Counter

from bench.clients.plain_http import PlainHttp
from bench.questions.storm_http import http_request
from bench.questions.storm_requests import Sender

PER_S = 90.0
LEAVE_S = 0.02
"""A client that leaves waits this long for its answer."""
ENDLESS_S = 0.5
"""How long an answer without an end is read."""


class HttpStormer:
    """One connection of one user, over all its sockets: a request at a time."""

    def __init__(
        self, port: int, request: str, variant: str, sender: Sender, token: str, address: str
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.answered_at_s: list[float] = []
        """Begins with the time of the first request."""
        self._port = port
        self._request = request
        self._variant = variant
        self._sender = sender
        self._token = token
        self._address = address
        self._number = 0
        self._socket: PlainHttp | None = None

    async def connect(self, connecting: asyncio.Semaphore) -> None:
        """Nothing: each request signs in."""

    async def run(self, until_s: float, connecting: asyncio.Semaphore) -> None:
        """Storm until then, and at least with one request."""
        loop = asyncio.get_running_loop()
        while loop.time() < until_s or not self.counts["asked"]:
            try:
                async with connecting:
                    self._socket = socket = await PlainHttp.connect(
                        self._port, self._hear, lambda: None, address=self._address
                    )
                while socket.is_open and (loop.time() < until_s or not self.counts["asked"]):
                    await self._ask(socket, until_s)
            except (OSError, TimeoutError):
                self.counts["refused_connections"] += 1
                await asyncio.sleep(LEAVE_S)
            finally:
                if self._socket is not None:
                    self._socket.abort()

    async def _ask(self, socket: PlainHttp, until_s: float) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        socket.send(http_request(self._request, self._sender, self._number, self._token))
        self._number += 1
        self.counts["asked"] += 1
        self.answered_at_s = self.answered_at_s or [began_s]
        if self._variant == "not reading":
            socket.stop_reading()
        wait_s = LEAVE_S if self._variant == "leaving" else until_s - began_s
        if self._request == "event streams":
            wait_s = min(wait_s, ENDLESS_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait_s)):
                await socket.answered()
                if self._variant == "reading":
                    await asyncio.sleep(began_s + 1 / PER_S - loop.time())
                    return
        socket.abort()

    def _hear(self, status: int) -> None:
        self.answered_at_s.append(asyncio.get_running_loop().time())
        self.counts["answered" if status < 300 else "refused"] += 1
