"""The ordered log on a machine of the simulated network, and a node's way to it.

It is durable: its machine may crash, what it acknowledged stays.
"""

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, Final

import msgspec

from huahuo.eventstore.sequencer.port import InDoubt, Ordered, Unreachable
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.worlds.listening import listen

PORT: Final = 9
ANSWER_S: Final = 2.0
_LENGTH = struct.Struct("!I")


async def _send(writer: asyncio.StreamWriter, *what: Any) -> None:
    if writer.is_closing():
        raise ConnectionResetError  # simloop raises another error there
    data = msgspec.msgpack.encode(what)
    writer.write(_LENGTH.pack(len(data)) + data)
    await writer.drain()


async def _receive(reader: asyncio.StreamReader) -> Any:
    [length] = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return msgspec.msgpack.decode(await reader.readexactly(length))


async def serve_order(order: MemoryOrder) -> None:
    """The machine of the ordered log."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            match await _receive(reader):
                case ["propose", data]:
                    await _send(writer, order.put(data))
                case ["last"]:
                    await _send(writer, order.last)
                case ["follow", after]:
                    while True:
                        data = order.get(after + 1)
                        if data is None:
                            await order.wait()
                        else:
                            after += 1
                            await _send(writer, after, data)
        writer.close()

    server = await listen(serve, "order", PORT)
    async with server:
        await server.serve_forever()


class NetSequencer:
    """A node's way to the ordered log over the simulated network."""

    proposal_bytes_max = 1 << 20
    trouble = ""

    async def propose(self, proposal: bytes) -> int:
        [offset] = await self._ask("propose", proposal)
        return int(offset)

    async def last(self) -> int:
        try:
            [offset] = await self._ask("last")
        except InDoubt as error:
            raise Unreachable(str(error)) from None
        return int(offset)

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    reader, writer = await asyncio.open_connection("order", PORT)
                try:
                    await _send(writer, "follow", after)
                    while True:
                        # Silence may mean that the way is cut: connect again.
                        async with asyncio.timeout(ANSWER_S):
                            offset, data = await _receive(reader)
                        after = offset
                        yield Ordered(offset, data)
                finally:
                    writer.close()
            await asyncio.sleep(0.1)

    async def trim(self, before: int) -> None:
        raise Unreachable(f"not trimmed before {before}")

    async def close(self) -> None:
        pass

    async def _ask(self, *what: Any) -> Any:
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_connection("order", PORT)
        except (OSError, TimeoutError):
            raise Unreachable("the ordered log does not answer") from None
        try:
            async with asyncio.timeout(ANSWER_S):
                await _send(writer, *what)
                return await _receive(reader)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            raise InDoubt("no answer came") from None
        finally:
            writer.close()
