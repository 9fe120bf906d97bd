"""Bytes behind a request: the first request is answered, and a WebSocket loses none of its frames."""

import asyncio
import contextlib
import socket

import msgspec
import pytest
from websockets.frames import PING, TEXT, Frame

from huahuo.transport.http import native
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.wire.site import Asset
from tests.support.patience import WITHIN_S
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = Asset.of("application/octet-stream", b"x" * 4_000_000)


async def exchange(w: World, *segments: bytes, half_close: bool = False) -> bytes:
    """What the port answers to these segments until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
    try:
        for segment in segments:
            writer.write(segment)
            await asyncio.sleep(0)
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(WITHIN_S):
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def upgrade(connection: str) -> bytes:
    return (
        f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: {connection}\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: {V1}\r\n\r\n"
    ).encode()


def text(**message: object) -> bytes:
    return Frame(TEXT, msgspec.json.encode(message)).serialize(mask=True)


both_ways = pytest.mark.parametrize(
    "connection", ["Upgrade", "Upgrade, keep-alive"], ids=["short way", "long way"]
)


@pytest.mark.parametrize("second", [GET, GET * 50, b"garbage", b"\x16\x03\x01", upgrade("Upgrade")])
async def test_of_several_requests_in_one_segment_the_first_is_answered(second: bytes) -> None:
    async with world() as w:
        answer = await exchange(w, GET + second)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.endswith(b"\r\n\r\nok\n")
        await until(lambda: not (w.delivering.unauthenticated_count or w.delivering.handler_tasks))


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz", b"/metrics", b"/nothing"])
async def test_a_request_with_a_half_close_is_answered(path: bytes) -> None:
    async with world() as w:
        answer = await exchange(w, GET.replace(b"/healthz", path), half_close=True)
        assert answer.startswith(b"HTTP/1.1 404 " if path == b"/nothing" else b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in answer
        await until(lambda: not (w.delivering.unauthenticated_count or w.delivering.handler_tasks))


async def test_a_large_answer_after_a_half_close_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "HALF_CLOSED_S", 10 * WITHIN_S)
    async with world(assets={"/large": LARGE}) as w:
        async with asyncio.timeout(WITHIN_S):  # the server closes by itself, not by its deadline
            answer = await exchange(w, GET.replace(b"/healthz", b"/large") + GET, half_close=True)
        assert answer.partition(b"\r\n\r\n")[2] == LARGE.body


async def test_half_a_request_with_a_half_close_leaves_nothing_behind() -> None:
    async with world() as w:
        assert await exchange(w, GET[:-2], half_close=True) == b""
        await until(lambda: not (w.delivering.unauthenticated_count or w.delivering.handler_tasks))


@both_ways
async def test_frames_in_the_segment_of_the_upgrade_are_read(connection: str) -> None:
    async with world() as w:
        frames = text(action="authenticate", token=w.token()) + text(action="heartbeat", id="h")
        reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
        writer.write(upgrade(connection) + Frame(PING, b"early").serialize(mask=True) + frames)
        async with asyncio.timeout(WITHIN_S):
            answer = await reader.readuntil(b'"id":"h"')
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert rest.startswith(b"\x8a\x05early"), "the pong comes behind the answer, not before it"
        assert rest.index(b"authentication_result") < rest.index(b"heartbeat_response")
        writer.close()


@both_ways
async def test_what_was_said_before_a_half_close_is_carried_out_and_answered(connection: str) -> None:
    async with world() as w:
        frames = text(action="authenticate", token=w.token()) + text(action="note", id="n", text="x")
        answer = await exchange(w, upgrade(connection) + frames, half_close=True)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert answer.index(b"authentication_result") < answer.index(b'"type":"success"')
        await until(lambda: w.log.head("user/42").seq == 1)
        await until(
            lambda: not (w.delivering.unauthenticated_count or len(w.ticked) or w.delivering.handler_tasks)
        )


@both_ways
@pytest.mark.parametrize("good", [True, False])
async def test_a_sign_in_before_a_half_close_is_answered(connection: str, good: bool) -> None:
    async with world() as w:
        token = w.token() if good else "nonsense"
        frames = text(action="authenticate", token=token)
        answer = await exchange(w, upgrade(connection) + frames, half_close=True)
        assert b'"type":"authentication_result","success":%s' % str(good).lower().encode() in answer
        await until(lambda: not (w.delivering.unauthenticated_count or w.delivering.handler_tasks))


async def test_a_client_that_asked_nothing_more_is_gone_with_its_half_close() -> None:
    async with world() as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
        writer.write(upgrade("Upgrade") + text(action="authenticate", token=w.token()))
        async with asyncio.timeout(WITHIN_S):
            await reader.readuntil(b"authentication_result")
            writer.write_eof()
            await reader.read()
        await until(lambda: not (len(w.ticked) or w.delivering.handler_tasks))
        writer.close()


async def test_a_command_that_is_never_answered_holds_a_half_closed_socket_for_a_bounded_time() -> None:
    async with world(TransportSettings(close_timeout_s=0.1)) as w:
        w.hold = asyncio.Event()
        frames = text(action="authenticate", token=w.token()) + text(action="note", id="n", text="x")
        with contextlib.suppress(ConnectionError):
            answer = await exchange(w, upgrade("Upgrade") + frames, half_close=True)
            assert b'"type":"success"' not in answer
        w.hold.set()
        await until(lambda: not (len(w.ticked) or w.delivering.handler_tasks))


@both_ways
async def test_a_breach_of_the_framing_behind_the_upgrade_is_told_after_the_answer(connection: str) -> None:
    async with world() as w:
        answer = await exchange(w, upgrade(connection) + b"\xff\xff\xff\xff")
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert rest[:1] == b"\x88"
        assert rest[2:4] == (1002).to_bytes(2)


async def test_frames_behind_a_refused_upgrade_are_dropped() -> None:
    async with world(TransportSettings(origins=("https://app.example",))) as w:
        head = upgrade("Upgrade").replace(b"Host: x", b"Host: x\r\nOrigin: https://evil.example")
        answer = await exchange(w, head + text(action="authenticate", token=w.token()))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_client_that_resets_while_its_request_is_answered_leaves_nothing_behind() -> None:
    async with world() as w:
        for said in (GET + GET, upgrade("Upgrade, keep-alive") + text(action="heartbeat")):
            with socket.create_connection(("127.0.0.1", w.port)) as gone:
                gone.sendall(said)
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert (await exchange(w, GET)).startswith(b"HTTP/1.1 200")
        await until(lambda: not (w.delivering.unauthenticated_count or w.delivering.handler_tasks))
