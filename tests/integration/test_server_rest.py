"""On uvloop: a connection with nothing to do is not ticked, and buffers stay bounded."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from huahuo.app.forking_loop import ForkingLoop
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.http.site import Asset
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.server.connection import Connection
from huahuo.transport.session.liveness import LOOK_S_MAX
from huahuo.transport.wire.sends import Way
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.sends import WAYS, need
from tests.support.worlds.wire import World, until, world

pytestmark = pytest.mark.loop(factory=ForkingLoop)
V1 = "huahuo.v1"
HEARTBEAT_S = TransportSettings().heartbeat_s
MANY: dict[str, Any] = {"door": AddressDoor(0), "connections_per_user": 0}


@asynccontextmanager
async def still_world(settings: TransportSettings | None = None, **how: Any) -> AsyncIterator[World]:
    """A world whose connections are ticked by the test alone."""
    async with world(settings, **how) as w:
        await w.hub.stop()
        yield w


def rests_for_s(connection: Connection, w: World) -> float:
    """How long the wheel passes it over from now on."""
    return max(0.0, connection.rests_until_s - w.ambient.monotonic_s())


def resting(w: World) -> Connection:
    """The one connection, after a tick that has left nothing to do."""
    w.tick(0)
    [connection] = w.connections
    assert rests_for_s(connection, w) > 0
    return connection


async def test_an_idle_connection_rests_until_its_ping() -> None:
    async with still_world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        await client.quiet()
        assert rests_for_s(resting(w), w) == pytest.approx(HEARTBEAT_S)


async def test_events_and_acks_do_not_end_its_rest() -> None:
    async with still_world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        await client.quiet()
        connection = resting(w)
        await w.append("user/42", "a")
        await client.until("events")
        await client.say(action="ack", cursors={"user/42": 1})
        await until(lambda: connection.session.delivery.window.outstanding == 0)
        assert rests_for_s(connection, w) == pytest.approx(HEARTBEAT_S)


async def test_events_that_must_wait_end_its_rest() -> None:
    async with still_world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(), window=10)
        await client.quiet()
        connection = resting(w)
        for number in range(12):
            await w.append("user/42", str(number))
        await until(lambda: connection.session.delivery.unfinished)
        assert rests_for_s(connection, w) == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_socket_that_is_full_ends_its_rest(way: Way) -> None:
    need(way)
    settings = TransportSettings(write_buffer_bytes_max=1 << 16, sends=way)
    async with still_world(settings) as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(), window=4096)
        await client.quiet()
        connection = resting(w)
        client.ws.transport.pause_reading()
        [ws] = w.delivering.sockets
        while not ws.paused:
            await w.append("user/42", *["x" * 20_000] * 8)
            await asyncio.sleep(0)
        assert rests_for_s(connection, w) == 0
        assert w.delivering.budget.used > 0, "what is not sent counts in the budget at once"


async def a_message(_w: World, _connection: Connection, client: RawClient) -> None:
    await client.quiet()


async def bytes_in_the_budget(_w: World, connection: Connection, _client: RawClient) -> None:
    assert connection.pump.purse is not None


async def time_to_be_charged(w: World, connection: Connection, _client: RawClient) -> None:
    connection.went_on(w.ambient.monotonic_s() - 0.001)  # as after a message that had to wait


async def a_sleep_of_the_process(w: World, _connection: Connection, _client: RawClient) -> None:
    [ref] = w.ticked
    ref.wake_up(w.ambient.monotonic_s())


@pytest.mark.parametrize(
    "happens", [a_message, bytes_in_the_budget, time_to_be_charged, a_sleep_of_the_process]
)
async def test_what_must_be_looked_at_within_a_second_ends_its_rest(
    happens: Callable[[World, Connection, RawClient], Awaitable[None]],
) -> None:
    async with still_world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        await client.quiet()
        connection = resting(w)
        await happens(w, connection, client)
        assert rests_for_s(connection, w) == 0


async def test_one_that_keeps_a_pace_is_looked_at_every_few_seconds() -> None:
    need("send")
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(still_world(TransportSettings(sends="send"), **MANY))
        clients = [await stack.enter_async_context(raw(w.url, V1)) for _ in range(17)]
        for client in clients:
            await client.authenticate(w.token())
            await client.quiet()
        w.tick(0)
        assert min(rests_for_s(one, w) for one in w.connections) == pytest.approx(HEARTBEAT_S)
        for number in range(10):
            await w.append("user/42", str(number))
            for client in clients:
                await client.until("events")
        assert {one.session.delivery.paced for one in w.connections} == {True}
        assert {rests_for_s(one, w) for one in w.connections} == {0}
        w.tick(0)
        assert max(rests_for_s(one, w) for one in w.connections) == pytest.approx(LOOK_S_MAX)


async def test_a_reader_of_server_sent_events_that_reads_nothing_ends_its_rest() -> None:
    settings = TransportSettings(write_buffer_bytes_max=1 << 16)
    async with still_world(settings) as w:
        _, writer = await asyncio.open_connection("127.0.0.1", w.port)
        head = f"GET /streams/user/42 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token()}\r\n"
        writer.write((head + "Accept: text/event-stream\r\n\r\n").encode())
        await until(lambda: len(w.connections) == 1 and "user/42" in w.delivering.wires.fanout.watched())
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        connection = resting(w)
        while rests_for_s(connection, w):
            await w.append("user/42", *["x" * 20_000] * 8)
            await asyncio.sleep(0)
            assert w.log.head("user/42").seq < 1_000
        assert w.delivering.budget.used > 0
        writer.transport.abort()


async def test_a_client_that_leaves_right_after_the_request_is_no_fault() -> None:
    head = (
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with capture_logs() as logs:
        async with world() as w:
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", w.port)) as gone:
                    gone.sendall(head.encode())
                    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            async with raw(w.url, "huahuo.v1") as client:  # the server has seen the others by now
                await client.authenticate(w.token())
                await until(lambda: len(w.delivering.sockets) == 1)
                assert w.door.connection_count("127.0.0.1") == 1
    assert [one["event"] for one in logs if one["log_level"] == "error"] == []


@pytest.mark.parametrize("half_close", [False, True])
async def test_the_first_of_two_requests_is_answered_whole(half_close: bool) -> None:
    large = Asset.of("application/octet-stream", b"x" * 4_000_000)
    async with world(assets={"/large": large}) as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        if half_close:
            writer.write_eof()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body == large.body
        writer.close()
        await until(lambda: not (w.delivering.unauthenticated_count or w.delivering.sockets))
