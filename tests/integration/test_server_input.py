"""Every kind of bad input, from the handshake to the last byte: a typed answer or a known close."""

import asyncio
import contextlib
import socket

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import TEXT, Frame

from huahuo.transport.access.door import AddressDoor
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.rawclient import raw
from tests.support.drivers.session import types
from tests.support.patience import WITHIN_S
from tests.support.worlds.people import BOB
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"


async def http(w: World, *lines: str) -> bytes:
    """What the port answers to these header lines, until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(WITHIN_S):
        answer = await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answer


async def status_of(w: World, **headers: str) -> int:
    """The status of a WebSocket handshake with these headers: 101 if it is accepted."""
    try:
        async with raw(w.url, V1, additional_headers=headers, origin=None):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


# The handshake


async def test_plain_http_is_answered_on_the_same_port() -> None:
    async with world() as w:
        assert b"200 OK" in await http(w, "GET /healthz HTTP/1.1", "Host: x")
        assert b"405" in await http(w, "POST /healthz HTTP/1.1", "Host: x")


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        ("POST / HTTP/1.1\r\nContent-Length: 5", b"hello", b"405"),
        ("POST /healthz HTTP/1.1\r\nContent-Length: 3000000", b"x" * 3_000_000, b"405"),
        ("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n", b"405"),
        ("GET /é HTTP/1.1", b"", b"400"),
        ("\x16\x03\x01 no HTTP at all", b"", b"400"),
    ],
)
async def test_a_request_with_a_body_or_none_at_all_is_answered(
    head: str, body: bytes, status: bytes
) -> None:
    await is_answered(head, body, status)


@pytest.mark.parametrize(
    ("head", "body"),
    [("GET /healthz HTTP/1.1\r\nContent-Length: 5", b"hello"), ("GET /healthz HTTP/1.1\nHost: x\n", b"")],
)
async def test_a_get_with_a_body_and_lines_that_end_early_are_refused(head: str, body: bytes) -> None:
    await is_answered(head, body, b"400")


async def is_answered(head: str, body: bytes, status: bytes) -> None:
    async with world() as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
        writer.write(f"{head}\r\nHost: x\r\n\r\n".encode() + body)
        await writer.drain()
        async with asyncio.timeout(WITHIN_S):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert (b"\r\nallow: get, head\r\n" in answer.lower()) == (status == b"405")
        await until(lambda: not w.delivering.unauthenticated_count)


@pytest.mark.parametrize("path", ["/", "/ws", "/any/where?x=1"])
async def test_any_path_may_be_upgraded(path: str) -> None:
    async with world() as w, raw(f"ws://127.0.0.1:{w.port}{path}", V1) as client:
        assert (await client.authenticate(w.token()))["success"]


async def test_pages_of_other_sites_are_refused_before_the_upgrade() -> None:
    async with world(TransportSettings(origins=("https://app.example.org",))) as w:
        assert await status_of(w) == 101
        assert await status_of(w, Origin="http://127.0.0.1:3000") == 101
        assert await status_of(w, Origin="https://app.example.org") == 101
        assert await status_of(w, Origin="https://evil.example.org") == 403
        assert await status_of(w, Origin="null") == 403


@pytest.mark.parametrize(
    "lines",
    [
        ("GARBAGE",),
        ("GET / HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade"),
        (
            "GET / HTTP/1.1",
            "Host: a",
            "Host: b",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Origin: http://a",
        ),
        ("GET / HTTP/1.1", "Host: x", "X: " + "y" * 20_000),
        ("GET / HTTP/1.1", *[f"X-{n}: 1" for n in range(300)]),
    ],
)
async def test_a_broken_handshake_is_refused_and_leaves_nothing_behind(lines: tuple[str, ...]) -> None:
    async with world() as w:
        answer = await http(w, *lines)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        await until(lambda: not (len(w.ticked) or w.door.address_count or w.delivering.unauthenticated_count))


@pytest.mark.parametrize("connection", ["Upgrade", "Upgrade, keep-alive"], ids=["short way", "long way"])
@pytest.mark.parametrize("cut", [0, 1, 7, 40])
async def test_what_comes_with_the_handshake_is_read_behind_it(connection: str, cut: int) -> None:
    """A client need not wait for the answer; segments end where they like."""
    async with world() as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
        head = (
            f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: {connection}\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Protocol: {V1}\r\n\r\n"
        ).encode()
        hello = msgspec.json.encode({"action": "authenticate", "token": w.token()})
        beat = msgspec.json.encode({"action": "heartbeat", "id": "h"})
        said = head + b"".join(Frame(TEXT, text).serialize(mask=True) for text in (hello, beat))
        writer.write(said[: len(head) + cut])
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.write(said[len(head) + cut :])
        async with asyncio.timeout(WITHIN_S):
            rest = await reader.readuntil(b'"id":"h"')
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert rest.index(b"authentication_result") < rest.index(b"heartbeat_response")
        writer.close()


@pytest.mark.parametrize("connection", ["Upgrade", "Upgrade, keep-alive"], ids=["short way", "long way"])
async def test_a_client_that_leaves_right_after_the_request_is_not_counted_for_ever(connection: str) -> None:
    async with world() as w:
        head = (
            f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: {connection}\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", w.port)) as gone:
                gone.sendall(head.encode())
        async with raw(w.url, V1) as client:  # the server has seen the others by now
            await client.authenticate(w.token())
            await until(
                lambda: not w.delivering.unauthenticated_count and len(w.delivering.handler_tasks) == 1
            )
            await until(lambda: w.door.connection_count("127.0.0.1") == 1)


async def test_a_client_that_does_not_finish_the_handshake_is_cut_off() -> None:
    async with world(TransportSettings(open_timeout_s=0.2)) as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
        writer.write(b"GET / HTTP/1.1\r\nHost:")
        async with asyncio.timeout(WITHIN_S):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def test_compression_is_not_negotiated() -> None:
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    async with world() as w, raw(w.url, V1, additional_headers=headers) as client:
        assert client.ws.response is not None
        assert "Sec-WebSocket-Extensions" not in client.ws.response.headers


async def test_a_version_that_is_not_spoken_is_told_and_closed() -> None:
    async with world() as w, raw(w.url, "huahuo.v9") as client:
        assert client.ws.subprotocol == "huahuo.v9"
        assert await client.closed() == CloseCode.UNSUPPORTED_VERSION
        assert [(m["type"], m["code"]) for m in client.seen] == [("goaway", 4506)]


# Too many


async def test_over_the_limit_of_an_address_connections_are_told_and_then_refused() -> None:
    async with world(door=AddressDoor(2)) as w, contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            client = await stack.enter_async_context(raw(w.url, V1))
            assert (await client.authenticate(w.token()))["success"]
        client = await stack.enter_async_context(raw(w.url, V1))
        assert await client.closed() == CloseCode.TOO_MANY_CONNECTIONS
        assert (client.seen[0]["code"], client.seen[0]["retry_s"][0]) == (4504, 30)
        await until(lambda: w.door.connection_count("127.0.0.1") == 2)
        for _ in range(2):
            w.door.enter("127.0.0.1")
        assert await status_of(w) == 429


async def test_an_address_that_left_may_come_again() -> None:
    async with world(door=AddressDoor(1)) as w:
        for _ in range(5):
            async with raw(w.url, V1) as client:
                assert (await client.authenticate(w.token()))["success"]
            await until(lambda: not w.door.address_count)


async def test_one_user_too_often_is_told_and_closed() -> None:
    async with world(connections_per_user=2) as w, contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            client = await stack.enter_async_context(raw(w.url, V1))
            await client.authenticate(w.token())
        async with raw(w.url, V1) as third, raw(w.url, V1) as bob:
            await third.say(action="authenticate", token=w.token())
            assert await third.closed() == CloseCode.TOO_MANY_CONNECTIONS
            assert (await bob.authenticate(w.token(BOB)))["success"]


async def test_from_the_fifth_failure_in_a_minute_the_answer_is_held_back() -> None:
    async with world() as w:
        loop = asyncio.get_running_loop()
        took_s: list[float] = []
        for _ in range(5):
            async with raw(w.url, V1) as client:
                began_s = loop.time()
                assert not (await client.authenticate("wrong"))["success"]
                took_s.append(loop.time() - began_s)
        assert min(took_s[:4]) < 0.9 <= took_s[4]


async def test_an_answer_that_is_held_back_holds_nothing_after_its_client_left() -> None:
    async with world() as w:
        for _ in range(12):
            w.door.auth_failed("127.0.0.1", w.ambient.monotonic_s())
        async with raw(w.url, V1) as client:
            await client.say(action="authenticate", token="wrong")
            await client.say(action="heartbeat")
            await until(lambda: len(w.ticked))
        await until(lambda: not (len(w.ticked) or w.runtime.alive))


# Messages


@pytest.mark.parametrize("data", ["nonsense", "[]", '{"action":NaN}', b"\xff\x00", "[" * 100_000, ""])
async def test_what_is_no_message_is_answered_and_the_connection_stays(data: str | bytes) -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        await client.say_raw(data)
        assert (await client.until("error"))["code"] == "bad_message"
        assert types(await client.quiet()) == []


async def test_fields_that_the_server_does_not_know_are_ignored() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.say(action="authenticate", token=w.token(), of_tomorrow={"a": 1})
        assert (await client.until("authentication_result"))["success"]
        await client.say(action="note", id="n", text="x", of_tomorrow="y")
        assert (await client.until("success"))["id"] == "n"


async def test_a_message_above_the_limit_closes_with_1009() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        with contextlib.suppress(ConnectionClosed):
            await client.say_raw("x" * ((1 << 20) + 1))
        assert await client.closed() == 1009


async def test_text_that_is_not_utf8_closes_with_1007() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        client.ws.transport.write(Frame(TEXT, b"\xff\xff").serialize(mask=True))
        assert await client.closed() == 1007


async def test_an_unmasked_frame_closes_with_1002() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        client.ws.transport.write(Frame(TEXT, b"{}").serialize(mask=False))
        assert await client.closed() == 1002


async def test_a_breach_of_the_framing_by_a_peer_that_stays_is_cut_off() -> None:
    async with world(TransportSettings(close_timeout_s=0.1)) as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        client.ws.transport.write(Frame(TEXT, b"{}").serialize(mask=False))
        client.ws.transport.pause_reading()
        await until(lambda: not len(w.ticked))


async def test_a_message_in_pieces_is_one_message() -> None:
    async with world() as w, raw(w.url, V1) as client:
        data = msgspec.json.encode({"action": "authenticate", "token": w.token()}).decode()
        await client.ws.send([data[:10], data[10:20], data[20:]])
        assert (await client.next())["success"]


async def test_a_flood_of_pings_that_nobody_reads_the_answers_of_is_cut_off() -> None:
    settings = TransportSettings(reply_bytes_max=1 << 18, write_buffer_bytes_max=1 << 16)
    async with world(settings) as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        client.ws.transport.pause_reading()
        ping = Frame(0x9, b"x" * 125).serialize(mask=True) * 1000  # type: ignore[arg-type]
        with contextlib.suppress(ConnectionError, ConnectionClosed):
            while len(w.ticked):
                client.ws.transport.write(ping)
                await asyncio.sleep(0)
        assert len(w.ticked) == 0


async def test_no_token_is_ever_said_again() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.say(action="authenticate", token=w.token(), window="canary", client="canary")
        await client.say(action="authenticate", token=["canary"])
        await client.say(action="authenticate", token="canary")
        await client.closed()
        assert "canary" not in str(client.seen)
