"""First requests wait for their turn by address: a thousand sockets of one address keep no other waiting."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from huahuo.transport.access.door import AddressDoor
from huahuo.transport.load.fair_queueing import Rounds
from huahuo.transport.server.server import ACCEPTS_A_TURN
from tests.support.patience import WITHIN_S
from tests.support.worlds.wire import World, until, world

ASKED = "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
KEY = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
WELCOME = b"HTTP/1.1 101 Switching Protocols\r\n"

type Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """In each world no turn of the loop has time; these addresses have no room."""
    full: set[str] = set()
    monkeypatch.setattr(Rounds, "may_begin", lambda _rounds, _owner: False)
    return full


@asynccontextmanager
async def asking(w: World, *addresses: str) -> AsyncIterator[list[Streams]]:
    found: list[Streams] = []
    try:
        for address in addresses:
            reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
            found.append((reader, writer))
            writer.write((ASKED.format(address) + KEY).encode())
        yield found
    finally:
        for _, writer in found:
            writer.transport.abort()


async def welcomed(streams: Streams) -> bool:
    async with asyncio.timeout(WITHIN_S):
        return await streams[0].readline() == WELCOME


async def test_sockets_of_an_address_wait_in_a_line_of_their_own_also_behind_a_proxy(
    crowded: set[str],
) -> None:
    async with world(door=AddressDoor(trusted_proxies=["127.0.0.1"])) as w:
        turns = w.delivering.turns.rounds
        turns.room.append(lambda owner: owner not in crowded)
        crowded.add("address 192.0.2.1")
        async with asking(w, *["192.0.2.1"] * 5, "192.0.2.2") as found:
            assert await welcomed(found[-1])
            await until(lambda: turns.waiting == 5)
            assert w.delivering.unauthenticated_count == 6
            crowded.clear()
            for one in found[:-1]:
                assert await welcomed(one)


async def test_a_socket_that_leaves_while_it_waits_holds_nothing(crowded: set[str]) -> None:
    async with world() as w:
        turns = w.delivering.turns.rounds
        turns.room.append(lambda owner: owner not in crowded)
        crowded.add("address 127.0.0.1")
        async with asking(w, "192.0.2.1"):
            await until(lambda: w.delivering.lobby_bytes)
        crowded.clear()
        await until(lambda: not turns.waiting and not w.delivering.unauthenticated_count)
        assert w.delivering.lobby_bytes == 0


async def test_one_turn_of_the_loop_accepts_a_bounded_number_of_connections() -> None:
    async with world() as w:
        with contextlib.ExitStack() as clients:
            for _ in range(10 * ACCEPTS_A_TURN):
                clients.enter_context(socket.create_connection(("127.0.0.1", w.port), WITHIN_S))
            # All of them wait in the kernel: the loop had no turn since.
            counts = [0]
            async with asyncio.timeout(WITHIN_S):
                while counts[-1] < 10 * ACCEPTS_A_TURN:
                    await asyncio.sleep(0)
                    counts.append(w.delivering.unauthenticated_count)
            assert max(later - sooner for sooner, later in pairwise(counts)) <= ACCEPTS_A_TURN
