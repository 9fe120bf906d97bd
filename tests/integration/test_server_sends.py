"""Whichever way frames are written, clients see the same, on uvloop and on asyncio's own loop."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from structlog.testing import capture_logs

from huahuo.app.forking_loop import ForkingLoop
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.wire.sends import Way
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.sends import WAYS, need
from tests.support.worlds.wire import until, world

pytestmark = pytest.mark.loop(factory=ForkingLoop)
V1 = "huahuo.v1"


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    need(request.param)
    chosen: Way = request.param
    return chosen


async def test_the_log_says_which_way_frames_go(way: Way) -> None:
    with capture_logs() as logs:
        async with world(TransportSettings(sends=way)):
            pass
    assert [line["way"] for line in logs if line["event"] == "frames_are_sent_by"] == [way]


async def test_a_reader_that_stops_for_a_while_gets_all_in_order_from_a_bounded_buffer(way: Way) -> None:
    settings = TransportSettings(write_buffer_bytes_max=1 << 16, sends=way)
    async with world(settings) as w, raw(w.url, V1) as slow, raw(w.url, V1) as quick:
        for client in (slow, quick):
            await client.authenticate(w.token(), window=4096)
        slow.ws.transport.pause_reading()
        for _ in range(40):
            await w.append("user/42", *["x" * 20_000] * 8)
            await asyncio.sleep(0)
        await until(lambda: any(ws.paused for ws in w.server.sockets))
        assert max(ws.unsent_bytes for ws in w.server.sockets) <= (1 << 16) + 8 * (256 << 10)
        slow.ws.transport.resume_reading()
        for client in (slow, quick):
            while len(client.events("user/42")) < 320:
                await client.until("events")
            assert [seq for seq, _ in client.events("user/42")] == list(range(1, 321))


async def test_a_client_that_leaves_while_events_flow_costs_the_others_nothing(way: Way) -> None:
    async with world(TransportSettings(sends=way)) as w, raw(w.url, V1) as stays:
        await stays.authenticate(w.token(), window=4096)
        async with raw(w.url, V1) as leaves:
            await leaves.authenticate(w.token(), window=4096)
            await w.append("user/42", "a")
            leaves.ws.transport.abort()
            await w.append("user/42", "b")
        await w.append("user/42", "c")
        while len(stays.events("user/42")) < 3:
            await stays.until("events")
        await until(lambda: w.hub.open_count == 1)


async def test_events_come_before_the_close_that_follows_them(way: Way) -> None:
    async with world(TransportSettings(sends=way)) as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(), window=4096)
        await client.quiet()
        await w.append("user/42", "a", "b")
        await w.server.drain(2)
        assert await client.closed() == CloseCode.DRAINING
        assert [seq for seq, _ in client.events("user/42")] == [1, 2]
        assert client.seen[-1]["type"] == "goaway"


async def heard(way: Way, seed: int, size: int) -> list[list[tuple[int, dict[str, Any]]]]:
    """What each client got in a random schedule of commits, pauses and questions."""
    chance = random.Random(seed)
    settings = TransportSettings(write_buffer_bytes_max=1 << 14, sends=way)
    async with world(settings) as w, AsyncExitStack() as stack:
        clients: list[RawClient] = [await stack.enter_async_context(raw(w.url, V1)) for _ in range(size)]
        for client in clients:
            await client.authenticate(w.token(), window=chance.choice((300, 4096)))
        total = 0
        for _ in range(12 + 2 * size):
            texts = [
                f"{total + n} " + "x" * chance.choice((1, 500, 9_000)) for n in range(chance.randint(1, 5))
            ]
            total += len(texts)
            await w.append("user/42", *texts)
            await chance.choice(clients).say(action="unsubscribe", id=f"q{total}", stream="group/none")
            transport = chance.choice(clients).ws.transport
            turn: Callable[[], None] = chance.choice((transport.pause_reading, transport.resume_reading))
            turn()
        for client in clients:
            client.ws.transport.resume_reading()
            while len(client.events("user/42")) < total:
                await client.until("events")
        return [client.events("user/42") for client in clients]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [3, 20])
async def test_every_way_tells_every_client_the_same_over_random_schedules(seed: int, size: int) -> None:
    told = []
    for way in WAYS:
        need(way)
        told.append(await heard(way, seed, size))
    assert all(one == told[0] for one in told)
