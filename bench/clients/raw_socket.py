"""A WebSocket client made of one protocol object: no task, no library, so that thousands fit in a process.

It sends frames masked with zeros, hands over whole messages, and can stop reading. It knows nothing of
what the messages say.
"""

import asyncio
from collections.abc import Callable
from typing import Self

from bench.clients.raw_protocol import OPEN_TIMEOUT_S, RawProtocol, connected
from bench.clients.script import text, upgrade

_PING, _PONG, _CLOSE = 9, 0x8A, 8


class RawSocket(RawProtocol):
    """One connection. `on_message` is called with each text message, `on_lost` once at the end."""

    def __init__(self, on_message: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._upgraded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._room = asyncio.Event()
        self._room.set()

    @classmethod
    async def connect(
        cls,
        port: int,
        on_message: Callable[[bytes], None],
        on_lost: Callable[[], None],
        *,
        address: str = "127.0.0.1",
        receive_bytes: int = 0,
    ) -> Self:
        """Open one from `address`, a loopback address; `receive_bytes` bounds the kernel's receive buffer.

        Raises:
            OSError: refused, at the socket or by the answer to the upgrade. TimeoutError: not answered.
        """
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            made = await connected(
                lambda: cls(on_message, on_lost), port, address=address, receive_bytes=receive_bytes
            )
            try:
                await made.upgraded()
            except BaseException:
                made.abort()
                raise
        return made

    async def upgraded(self) -> None:
        """Return when the server has answered the upgrade.

        Raises:
            ConnectionRefusedError: with a refusal.
        """
        if not await self._upgraded:
            raise ConnectionRefusedError("the upgrade was refused")

    def send(self, message: bytes) -> None:
        """Send a text message; nothing happens where the connection is gone."""
        if self.is_open:
            self._transport.write(text(message))

    async def room(self) -> None:
        """Return when the send buffer has room, or the connection is gone."""
        await self._room.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._transport.write(upgrade(subprotocol="huahuo.v1")[0])

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        del exc
        self.is_open = False
        self._room.set()
        if not self._upgraded.done():
            self._upgraded.set_result(False)
        self._on_lost()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._room.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._room.set()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        buffer = self._buffer
        buffer += data
        at = 0
        if not self.is_open:
            head, end, _ = bytes(buffer).partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head.partition(b"\r\n")[0]:
                self._transport.abort()
                return
            self.is_open = True
            if not self._upgraded.done():
                self._upgraded.set_result(True)
            at = len(head) + 4
        while (frame := _frame(buffer, at)) is not None:
            opcode, begin, at = frame
            if opcode == _PING:
                self._transport.write(
                    bytes((_PONG, 0x80 | (at - begin))) + bytes(4) + bytes(buffer[begin:at])
                )
            elif opcode != _CLOSE:
                self._on_message(bytes(buffer[begin:at]))
        del buffer[:at]


def _frame(buffer: bytearray, at: int) -> tuple[int, int, int] | None:
    """(opcode, first byte of the payload, first byte behind it) of the frame at `at`, if it is whole."""
    if len(buffer) < at + 2:
        return None
    size, begin = buffer[at + 1] & 127, at + 2
    if size >= 126:
        begin += 2 if size == 126 else 8
        if len(buffer) < begin:
            return None
        size = int.from_bytes(buffer[at + 2 : begin], "big")
    end = begin + size
    return (buffer[at] & 15, begin, end) if len(buffer) >= end else None
