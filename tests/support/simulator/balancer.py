"""A load balancer before the nodes of a simulated cluster: each connection goes to a node that takes clients.

It asks each node's `/readyz` now and then. While no node is ready, it tries all of them.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from random import Random
from typing import Final

from tests.support.simulator.loop import Loop
from tests.support.simulator.marks import Marks
from tests.support.simulator.node import HOST, PORT
from tests.support.worlds.listening import listen

ASKS_S: Final = 2.0
ANSWER_S: Final = 1.0
_READ: Final = 1 << 16
_READY: Final = b"HTTP/1.1 200"


class Balancer:
    """See the module. `nodes`: the names of their machines."""

    def __init__(self, loop: Loop, nodes: Sequence[str], marks: Marks) -> None:
        self._nodes = nodes
        self._marks = marks
        self._ready: list[str] = []
        self._chance = Random(f"balancer {loop.seed}")
        self._last: dict[str, str] = {}
        """By client: the node that had it last."""

    async def serve(self) -> None:
        """Until it is cancelled."""
        server = await listen(self._handle, HOST, PORT)
        async with server:
            while True:
                self._ready = [name for name in self._nodes if await self._is_ready(name)]
                await asyncio.sleep(ASKS_S)

    async def _is_ready(self, name: str) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_connection(name, PORT)
                try:
                    if writer.is_closing():  # as in `_copy`
                        return False
                    writer.write(
                        f"GET /readyz HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
                    )
                    return (await reader.readline()).startswith(_READY)
                finally:
                    writer.close()
        return False

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        some = self._ready or self._nodes
        for name in self._chance.sample(some, len(some)):
            try:
                async with asyncio.timeout(ANSWER_S):
                    there = await asyncio.open_connection(name, PORT)
            except (OSError, TimeoutError):
                continue
            client = str(writer.get_extra_info("peername")[0])
            before = self._last.get(client, name)
            self._last[client] = name
            self._marks.sometimes("client moved to another node", before != name)
            await _join((reader, writer), there)
            return
        writer.transport.abort()


type _Socket = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(one: _Socket, other: _Socket) -> None:
    """Copy both ways until one side ends; then the other ends in the same way."""
    copying = [asyncio.ensure_future(_copy(one[0], other[1])), asyncio.ensure_future(_copy(other[0], one[1]))]
    try:
        ended, _ = await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
        for _, writer in (one, other):
            if all(task.result() for task in ended):
                writer.close()
            else:
                writer.transport.abort()
    finally:
        for task in copying:
            task.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether `reader` came to its end in order."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_READ):
            if writer.is_closing():  # simloop raises for a write to a connection that was reset
                return False
            writer.write(data)
            await writer.drain()
        return True
    return False
