"""Letting go of a connection to a server of the ordered log."""

import asyncio

from huahuo.eventstore.sequencer.address import let_go
from tests.support.patience import WITHIN_S

LARGE = 32 << 20
"""More than two sockets hold."""


async def test_a_connection_that_closed_while_it_still_sent_can_be_let_go_of_afterwards() -> None:
    async with asyncio.timeout(WITHIN_S), await asyncio.start_server(_read_all, "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(bytes(LARGE))
        assert writer.transport.get_write_buffer_size()
        writer.close()
        await writer.wait_closed()
        await let_go([writer.transport])
        assert writer.transport.is_closing()


async def _read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1 << 20):
        pass
    writer.close()
