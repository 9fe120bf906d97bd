"""A client that does nothing by itself: it sends given messages and shows each received frame."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.support.patience import WITHIN_S

_TURNS = 20


class RawClient:
    """One WebSocket. `seen` holds every message in order.

    Binary messages are a fault unless `unpack` is set; `binary` counts them.
    """

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.unpack: Callable[[bytes], bytes] | None = None
        self.binary = 0
        self.seen: list[dict[str, Any]] = []

    async def say(self, **message: Any) -> None:
        await self.ws.send(msgspec.json.encode(message).decode())

    async def say_raw(self, data: str | bytes) -> None:
        await self.ws.send(data)

    async def next(self) -> dict[str, Any]:
        """The next message."""
        async with asyncio.timeout(WITHIN_S):
            data = await self.ws.recv()
        if isinstance(data, bytes):
            assert self.unpack is not None, "the server sends text"
            self.binary += 1
            data = self.unpack(data).decode()
        message: dict[str, Any] = msgspec.json.decode(data)
        self.seen.append(message)
        return message

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next message of this type and with these fields; others are passed over (see `seen`)."""
        while True:
            message = await self.next()
            if message["type"] == kind and all(message.get(name) == v for name, v in fields.items()):
                return message

    async def authenticate(self, token: str, **fields: Any) -> dict[str, Any]:
        await self.say(action="authenticate", token=token, **fields)
        return await self.until("authentication_result")

    async def quiet(self, **marker: Any) -> list[dict[str, Any]]:
        """What comes before the answer to a heartbeat: proof that nothing else was on its way.

        The server answers at once, so its tasks get some turns of the loop first.
        """
        before = len(self.seen)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        await self.say(action="heartbeat", id="quiet?")
        await self.until("heartbeat_response", id="quiet?")
        return self.seen[before:-1]

    async def closed(self) -> int:
        """Read to the end and return the close code."""
        async with asyncio.timeout(WITHIN_S):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    self.seen.append(msgspec.json.decode(await self.ws.recv()))
            await self.ws.wait_closed()
        assert self.ws.close_code is not None
        return self.ws.close_code

    def events(self, stream: str | None = None) -> list[tuple[int, dict[str, Any]]]:
        """(seq, event) of everything that came in `events` frames, or singly."""
        found: list[tuple[int, dict[str, Any]]] = []
        for message in self.seen:
            if message["type"] == "events" and stream in (None, message["stream"]):
                found += enumerate(message["events"], message["seq"])
            elif "seq" in message and "timestamp" in message and stream in (None, message["stream"]):
                found.append((message["seq"], message))
        return found


@asynccontextmanager
async def raw(url: str, *subprotocols: str, **options: Any) -> AsyncIterator[RawClient]:
    """Connect; without a subprotocol as a classic client. Ends without waiting for the server."""
    offered = [Subprotocol(name) for name in subprotocols]
    ws = await connect(
        url,
        subprotocols=offered or None,
        compression=None,
        ping_interval=None,
        max_size=1 << 25,
        proxy=None,
        **options,
        open_timeout=WITHIN_S,
    )
    try:
        yield RawClient(ws)
    finally:
        ws.transport.abort()
        await ws.wait_closed()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[RawClient]:
    """A client of version 1 of the service at `url` (`http://…`)."""
    async with raw(f"{url.replace('http', 'ws', 1)}/ws", "huahuo.v1") as client:
        yield client
