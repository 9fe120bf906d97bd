"""The well-behaved pair of `bench storms`: one user publishes to a group evenly, another one reads it.

Latency counts from the moment an event was due to its receipt.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self

import msgspec

from bench.sockets import RawSocket

STREAM = "group/bystanders"
STRAGGLERS_S = 30.0
"""How long an event may take before it counts as lost."""
_WAKE_S = 0.001


class _Message(msgspec.Struct):
    """What is looked at, of any message."""

    type: str
    stream: str = ""
    seq: int = 0
    id: str = ""
    events: list[dict[str, Any]] = []
    success: bool = True
    log: str = ""


_decode = msgspec.json.Decoder(_Message).decode


class Measured:
    """Latencies of the events published in one span of time, in ms."""

    def __init__(self) -> None:
        self.receipts: list[float] = []
        self.published = 0
        self.acknowledged = 0

    @property
    def lost(self) -> int:
        """Events that were acknowledged and did not come."""
        return max(0, self.acknowledged - len(self.receipts))


class Bystanders:
    """See the module. Use it with `async with`."""

    def __init__(self, port: int, publisher_token: str, reader_token: str) -> None:
        self._port = port
        self._tokens = (publisher_token, reader_token)
        self._unreceived: dict[int, int] = {}
        self._unacked: set[int] = set()
        self._number = 0
        self._measured = Measured()
        self._settled = asyncio.Event()
        self._stack = AsyncExitStack()
        self.log = ""
        self.gone = False
        """Whether one of the two was cut off."""

    async def __aenter__(self) -> Self:
        self._publisher = await self._sign_in(self._tokens[0], self._published)
        self._reader = await self._sign_in(self._tokens[1], self._received)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def measure(self, per_s: float, seconds: float) -> Measured:
        """Publish evenly for a while, and wait for what was published."""
        measured = self._measured = Measured()
        self._settled.clear()
        start_ns, count = time.monotonic_ns(), max(1, int(per_s * seconds))
        while measured.published < count:
            due_ns = start_ns + int(measured.published / per_s * 1e9)
            if time.monotonic_ns() < due_ns:
                await asyncio.sleep(_WAKE_S)
                continue
            self._publish(due_ns)
        self._settle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STRAGGLERS_S):
                await self._settled.wait()
        assert not self.gone, "a bystander was cut off"
        self._unreceived.clear()
        self._unacked.clear()
        return measured

    def _publish(self, due_ns: int) -> None:
        self._number += 1
        self._measured.published += 1
        self._settled.clear()
        self._unreceived[self._number] = due_ns
        self._unacked.add(self._number)
        message = {"action": "publish", "stream": STREAM, "type": "tick", "n": self._number}
        self._publisher.send(json.dumps(message | {"id": str(self._number)}).encode())

    def _settle(self) -> None:
        if self.gone or not (self._unacked or self._unreceived):
            self._settled.set()

    def _published(self, data: bytes) -> None:
        message = _decode(data)
        if not message.id.isdigit() or int(message.id) not in self._unacked:
            return
        self._unacked.remove(int(message.id))
        if message.type == "success":
            self._measured.acknowledged += 1
        else:
            self._unreceived.pop(int(message.id), None)
        self._settle()

    def _received(self, data: bytes) -> None:
        message = _decode(data)
        if message.type != "events" or message.stream != STREAM:
            return
        now_ns = time.monotonic_ns()
        for event in message.events:
            due_ns = self._unreceived.pop(event["n"], None)
            if due_ns is not None:
                self._measured.receipts.append((now_ns - due_ns) / 1e6)
        self._settle()
        last = message.seq + len(message.events) - 1
        self._reader.send(json.dumps({"action": "ack", "cursors": {STREAM: last}}).encode())

    async def _sign_in(self, token: str, hear: Callable[[bytes], None]) -> RawSocket:
        ready = asyncio.Event()

        def first(data: bytes) -> None:
            message = _decode(data)
            if message.type == "authentication_result":
                assert message.success
                self.log = message.log
            if message.type == "subscribed":
                ready.set()
            hear(data)

        def lost() -> None:
            self.gone = True
            self._settle()

        sock = await RawSocket.connect(self._port, first, lost)
        self._stack.callback(sock.abort)
        sock.send(json.dumps({"action": "authenticate", "token": token, "window": 4096}).encode())
        sock.send(json.dumps({"action": "subscribe", "stream": STREAM}).encode())
        await asyncio.wait_for(ready.wait(), STRAGGLERS_S)
        return sock
