"""The same server on uvloop, whose transports write at the end of a turn and pause only then."""

import asyncio
import socket
import struct

import pytest
from structlog.testing import capture_logs

from huahuo.app.forking_loop import ForkingLoop
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.wire.site import Asset
from tests.support.drivers.rawclient import raw
from tests.support.worlds.wire import until, world

pytestmark = pytest.mark.loop(factory=ForkingLoop)


async def test_a_reader_that_stops_for_a_while_gets_everything_in_order_from_a_bounded_buffer() -> None:
    settings = TransportSettings(write_buffer_bytes_max=1 << 16)
    async with world(settings) as w, raw(w.url, "huahuo.v1") as client:
        await client.authenticate(w.token(), window=4096)
        client.ws.transport.pause_reading()
        for _ in range(60):
            await w.append("user/42", *["x" * 20_000] * 8)
            await asyncio.sleep(0)
        (ws,) = w.delivering.sockets
        await until(lambda: ws.paused)
        assert ws.transport.get_write_buffer_size() <= (1 << 16) + 8 * (256 << 10)
        client.ws.transport.resume_reading()
        while len(client.events("user/42")) < 480:
            await client.until("events")
        assert [seq for seq, _ in client.events("user/42")] == list(range(1, 481))


async def test_a_peer_that_does_not_read_cannot_hold_the_drain() -> None:
    settings = TransportSettings(close_timeout_s=0.1)
    async with world(settings) as w, raw(w.url, "huahuo.v1") as wedged:
        await wedged.authenticate(w.token(), window=4096)
        wedged.ws.transport.pause_reading()
        for _ in range(40):
            await w.append("user/42", *["x" * 60_000] * 4)
        await w.delivering.drain(2)
        assert len(w.ticked) == 0


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
                await until(lambda: len(w.delivering.handler_tasks) == 1)
                assert w.door.connection_count("127.0.0.1") == 1
    assert [one["event"] for one in logs if one["log_level"] == "error"] == []


async def test_a_drain_is_told() -> None:
    async with world() as w, raw(w.url, "huahuo.v1") as client:
        await client.authenticate(w.token())
        await w.delivering.drain(2)
        assert await client.closed() == CloseCode.DRAINING
        assert client.seen[-1]["type"] == "goaway"


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
        await until(lambda: not (w.delivering.unauthenticated_count or w.delivering.handler_tasks))
