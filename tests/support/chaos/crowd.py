"""The clients: each writes numbered messages into the stream of its circle, and reads that stream.

What a client is told goes into its notes: which numbers were acknowledged, and every event as it came.
"""

import asyncio
import random
from collections.abc import Callable

from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from huahuo.transport.protocol.codes import NOT_RECORDED

CIRCLE = 20
"""Clients that share a stream."""


class Member:
    """One client and its notes. `got`: (seq, by, n) of each event, in the order they came."""

    def __init__(self, number: int, url: str, token: Callable[[int], str], pause_s: float) -> None:
        self.number = number
        self.stream = f"group/circle-{number // CIRCLE}"
        self.acknowledged: list[int] = []
        self.got: list[tuple[int, int, int]] = []
        self.resets: list[str] = []
        self.sent = 0
        self.slowest_s = 0.0
        self._pause_s = pause_s
        self._writes = True
        self._client = Client(
            url, token=token(number), client=f"chaos-{number}", backoff_s=(0.2, 2.0), window=256
        )

    @property
    def online(self) -> bool:
        return self._client.state == "online"

    def stop_writing(self) -> None:
        """Write nothing new: what waits for its answer still gets it."""
        self._writes = False

    async def run(self, over: asyncio.Event) -> None:
        """Write and read until `over`."""
        async with self._client:
            reading = asyncio.create_task(self._read())
            await self._write()
            await over.wait()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        async with self._client.events(self.stream, after="start") as events:
            async for event in events:
                if event.type != "said":
                    self.resets.append(event.type)
                    continue
                self.got.append((event.seq, event.data["by"], event.data["n"]))

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(random.random() * self._pause_s)
        while self._writes:
            began_s, n = loop.time(), self.sent
            self.sent += 1
            await self._say(n)
            self.acknowledged.append(n)
            self.slowest_s = max(self.slowest_s, loop.time() - began_s)
            await asyncio.sleep(self._pause_s * (0.5 + random.random()))

    async def _say(self, n: int) -> None:
        fields = {"stream": self.stream, "type": "said", "by": self.number, "n": n}
        while True:
            try:
                await self._client.request("publish", fields, command_id=f"m-{n}")
            except CommandError as error:
                if error.code not in NOT_RECORDED:
                    raise
                await asyncio.sleep(0.2)
            else:
                return
