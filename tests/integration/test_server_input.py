"""Every kind of bad input, from the handshake to the last byte: a typed answer or a known close."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import BINARY, CONT, PING, PONG, TEXT, Frame, Opcode

from huahuo.transport.access.door import AddressDoor, RequestLimit
from huahuo.transport.http import native
from huahuo.transport.http.site import Asset
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.wire.web_socket import CONTROLS_MAX
from tests.support.drivers.rawclient import raw
from tests.support.drivers.session import types
from tests.support.patience import WITHIN_S
from tests.support.worlds.people import BOB
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"


both_ways = pytest.mark.parametrize(
    "connection", ["Upgrade", "Upgrade, keep-alive"], ids=["short way", "long way"]
)


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


async def status_of(w: World, **headers: str) -> int:
    """The status of a WebSocket handshake with these headers: 101 if it is accepted."""
    try:
        async with raw(w.url, V1, additional_headers=headers, origin=None):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


# The handshake


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


async def is_answered(head: str, body: bytes, status: bytes) -> None:
    async with world() as w:
        answer = await exchange(w, f"{head}\r\nHost: x\r\n\r\n".encode() + body)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert (b"\r\nallow: get, head\r\n" in answer.lower()) == (status == b"405")
        await until(lambda: not w.delivering.unauthenticated_count)


@pytest.mark.parametrize("path", ["/", "/ws", "/metrics", "/any/where?x=1"])
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
        answer = await exchange(w, "\r\n".join([*lines, "", ""]).encode())
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        await until(lambda: not (len(w.ticked) or w.door.address_count or w.delivering.unauthenticated_count))


@both_ways
@pytest.mark.parametrize("cut", [0, 1, 7, 40, 400])
async def test_what_comes_with_the_handshake_is_read_behind_it(connection: str, cut: int) -> None:
    """A client need not wait for the answer; segments end where they like."""
    async with world() as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
        head = upgrade(connection)
        frames = text(action="authenticate", token=w.token()) + text(action="heartbeat", id="h")
        said = head + Frame(PING, b"early").serialize(mask=True) + frames
        writer.write(said[: len(head) + cut])
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.write(said[len(head) + cut :])
        async with asyncio.timeout(WITHIN_S):
            rest = await reader.readuntil(b'"id":"h"')
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert rest.startswith(b"\x8a\x05early"), "the pong comes behind the answer, not before it"
        assert rest.index(b"authentication_result") < rest.index(b"heartbeat_response")
        writer.close()


@both_ways
async def test_a_client_that_leaves_right_after_the_request_is_not_counted_for_ever(connection: str) -> None:
    async with world() as w:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", w.port)) as gone:
                gone.sendall(upgrade(connection))
        async with raw(w.url, V1) as client:  # the server has seen the others by now
            await client.authenticate(w.token())
            await until(lambda: not w.delivering.unauthenticated_count and len(w.delivering.sockets) == 1)
            await until(lambda: w.door.connection_count("127.0.0.1") == 1)


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


LIMIT = 64 << 10
TOO_BIG = 1009


def header(size: int, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    """The head of a masked frame, without its payload (RFC 6455, 5.2)."""
    return bytes([opcode | (0x80 if fin else 0), 0x80 | 127]) + size.to_bytes(8) + b"mask"


def padded(size: int, **message: object) -> bytes:
    said = msgspec.json.encode(message)
    return said + b" " * (size - len(said))


class Peer:
    """A WebSocket by hand: bytes in, bytes out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, *data: bytes) -> None:
        self._writer.write(b"".join(data))

    async def until(self, text: bytes) -> bytes:
        async with asyncio.timeout(WITHIN_S):
            return await self._reader.readuntil(text)

    async def close_code(self) -> int:
        """The code of the close frame with which the server ends the connection."""
        async with asyncio.timeout(WITHIN_S):
            rest = await self._reader.read()
        _, found, close = rest.rpartition(b"\x88")
        assert found, rest
        return int.from_bytes(close[1:3])


@asynccontextmanager
async def peer(w: World, connection: str = "Upgrade") -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
    writer.write(upgrade(connection))
    await reader.readuntil(b"\r\n\r\n")
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


@both_ways
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_larger_message_is_refused_by_its_header_alone(connection: str, opcode: int) -> None:
    async with world() as w, peer(w, connection) as client:
        client.say(header(LIMIT + 1, opcode))
        assert await client.close_code() == TOO_BIG


async def test_a_message_in_fragments_is_refused_by_the_header_that_exceeds_the_limit() -> None:
    async with world() as w, peer(w) as client:
        client.say(Frame(TEXT, b"x" * 40_000, fin=False).serialize(mask=True))
        client.say(Frame(CONT, b"x" * 20_000, fin=False).serialize(mask=True))
        client.say(header(LIMIT - 60_000 + 1, CONT))
        assert await client.close_code() == TOO_BIG


async def test_a_message_of_endless_empty_fragments_is_refused() -> None:
    async with world() as w, peer(w) as client:
        client.say(Frame(TEXT, b"x", fin=False).serialize(mask=True))
        client.say(Frame(CONT, b"", fin=False).serialize(mask=True) * 5000)
        assert await client.close_code() == TOO_BIG


@both_ways
async def test_a_message_of_exactly_the_limit_is_answered(connection: str) -> None:
    async with world() as w, peer(w, connection) as client:
        client.say(Frame(TEXT, padded(LIMIT, action="heartbeat", id="h")).serialize(mask=True))
        await client.until(b'"id":"h"')


async def test_a_wrong_token_raises_no_limit() -> None:
    async with world() as w, peer(w) as client:
        said = msgspec.json.encode({"action": "authenticate", "token": "wrong"})
        client.say(Frame(TEXT, said).serialize(mask=True), header(LIMIT + 1))
        assert await client.close_code() in (TOO_BIG, 4500)


@both_ways
@pytest.mark.parametrize("fragments", [1, 3])
async def test_after_authentication_a_message_may_have_its_full_size(connection: str, fragments: int) -> None:
    headers = {"Connection": connection}
    async with world() as w, raw(w.url, V1, additional_headers=headers) as client:
        assert (await client.authenticate(w.token()))["success"]
        said = padded(1 << 20, action="heartbeat", id="large").decode()
        size = len(said) // fragments + 1
        pieces = [said[at : at + size] for at in range(0, len(said), size)]
        await client.ws.send(pieces if fragments > 1 else said)
        await client.until("heartbeat_response", id="large")


async def test_a_smaller_limit_of_messages_holds_before_authentication_too() -> None:
    async with world(TransportSettings(message_bytes_max=2000)) as w, peer(w) as client:
        client.say(header(2001))
        assert await client.close_code() == TOO_BIG


async def test_a_head_that_goes_on_beyond_the_limit_is_refused() -> None:
    async with world() as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
        writer.write(b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"y" * 1000) for n in range(70)))
        async with asyncio.timeout(WITHIN_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
        writer.close()
        await until(lambda: not w.delivering.unauthenticated_count)


# All together


async def test_sockets_that_keep_too_many_bytes_are_cut_off_and_a_quiet_one_stays() -> None:
    settings = TransportSettings(lobby_bytes_max=100_000)
    fragment = Frame(TEXT, b"x" * 40_000, fin=False).serialize(mask=True)
    async with world(settings) as w, raw(w.url, V1) as quiet:
        async with peer(w) as one, peer(w) as two:
            one.say(fragment)
            two.say(fragment)
            await until(lambda: w.delivering.lobby_bytes > 80_000)
            _, head = await asyncio.open_connection("127.0.0.1", w.port)
            head.write(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 7_000 + b"\r\nZ: " + b"z" * 7_000)
            await until(lambda: w.delivering.cut_off_count == 0 and w.delivering.lobby_bytes > 94_000)
            two.say(Frame(CONT, b"x" * 10_000, fin=False).serialize(mask=True))
            await until(lambda: w.delivering.cut_off_count == 1)
            assert w.delivering.lobby_bytes < 60_000
            head.transport.abort()
        assert (await quiet.authenticate(w.token()))["success"]
        await until(lambda: not w.delivering.lobby_bytes)


async def test_tiny_fragments_count_with_what_each_of_them_costs() -> None:
    async with world() as w, peer(w) as client:
        client.say(Frame(TEXT, b"x", fin=False).serialize(mask=True))
        client.say(Frame(CONT, b"", fin=False).serialize(mask=True) * 1000)
        await until(lambda: w.delivering.lobby_bytes > 250_000)


@both_ways
async def test_messages_that_were_handled_and_pings_are_held_no_more(connection: str) -> None:
    async with world() as w, peer(w, connection) as client:
        for number in range(3):
            client.say(Frame(TEXT, padded(30_000, action="heartbeat", id=f"h{number}")).serialize(mask=True))
            await client.until(b'"id":"h%d"' % number)
        client.say(*[Frame(PING, b"p" * 100).serialize(mask=True)] * 3)
        await client.until(b"p" * 100)
        await until(lambda: not w.delivering.lobby_bytes)


@pytest.mark.parametrize("opcode", [PING, PONG], ids=["pings", "pongs"])
@pytest.mark.parametrize("unfinished", [b"", Frame(TEXT, b"x", fin=False).serialize(mask=True)])
async def test_a_flood_of_control_frames_is_cut_off_before_all_of_it_was_read(
    opcode: Opcode, unfinished: bytes
) -> None:
    async with world() as w, peer(w) as client:
        client.say(unfinished, Frame(opcode, b"").serialize(mask=True) * 40_000)
        assert await client.close_code() == CloseCode.RATE_LIMITED


async def test_as_many_pings_as_a_client_sends_while_the_service_is_away_are_answered() -> None:
    async with world() as w, peer(w) as client:
        client.say(Frame(PING, b"p").serialize(mask=True) * CONTROLS_MAX)
        for _ in range(CONTROLS_MAX):
            await client.until(b"\x8a\x01p")


# How many


async def test_a_websocket_counts_until_it_has_authenticated() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await until(lambda: len(w.ticked))
        assert w.delivering.unauthenticated_count == 1
        await client.authenticate(w.token())
        assert w.delivering.unauthenticated_count == 0


async def test_over_the_limit_of_an_address_its_oldest_unauthenticated_socket_is_cut_off() -> None:
    async with world(TransportSettings(unauthenticated_per_address=2)) as w, raw(w.url, V1) as known:
        await known.authenticate(w.token())
        async with raw(w.url, V1) as oldest, raw(w.url, V1) as second:
            _, silent = await asyncio.open_connection("127.0.0.1", w.port)
            assert await oldest.closed() == 1006
            assert (await second.authenticate(w.token()))["success"]
            await known.quiet()
            assert w.delivering.cut_off_count == 1
            silent.transport.abort()


async def test_clients_of_a_trusted_proxy_count_each_for_itself() -> None:
    settings = TransportSettings(unauthenticated_per_address=1)
    door = AddressDoor(trusted_proxies=["127.0.0.1"])
    of = [{"X-Forwarded-For": f"192.0.2.{n}"} for n in (1, 2)]
    async with (
        world(settings, door=door) as w,
        raw(w.url, V1, additional_headers=of[0]) as one,
        raw(w.url, V1, additional_headers=of[1]) as two,
        raw(w.url, V1, additional_headers=of[1]) as three,
    ):
        assert await two.closed() == 1006
        assert (await one.authenticate(w.token()))["success"]
        assert (await three.authenticate(w.token()))["success"]


async def test_a_head_that_comes_byte_by_byte_is_cut_off_in_time() -> None:
    async with world(TransportSettings(open_timeout_s=0.2)) as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
        reading = asyncio.create_task(reader.read())
        async with asyncio.timeout(WITHIN_S):
            while not reading.done():
                writer.write(b"G")
                await asyncio.wait({reading}, timeout=0.01)
        reading.exception()
        writer.transport.abort()
        await until(lambda: not w.delivering.unauthenticated_count)


async def test_a_client_that_does_not_read_its_answer_is_cut_off_in_time() -> None:
    large = {"/large": Asset.of("application/octet-stream", b"x" * 20_000_000)}
    async with world(TransportSettings(open_timeout_s=0.2), assets=large) as w:
        _, writer = await asyncio.open_connection("127.0.0.1", w.port, limit=1024)
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: w.delivering.unauthenticated_count)
        await until(lambda: not w.delivering.unauthenticated_count)
        writer.transport.abort()


SIGN_IN = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"


async def test_who_is_about_to_sign_in_counts_as_unauthenticated() -> None:
    async with world() as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
        async with asyncio.timeout(WITHIN_S):
            for _ in range(3):
                writer.write(SIGN_IN)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
                assert w.delivering.unauthenticated_count == 1
                writer.write(b"not JSON!")
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
                await reader.readuntil(b"}")
        assert w.delivering.unauthenticated_count == 1
        await until(lambda: not w.delivering.lobby_bytes)
        writer.transport.abort()
        await until(lambda: not w.delivering.unauthenticated_count)


async def test_a_sign_in_whose_body_does_not_come_is_cut_off_in_time() -> None:
    async with world(TransportSettings(open_timeout_s=0.2)) as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
        writer.write(SIGN_IN)
        async with asyncio.timeout(WITHIN_S):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.transport.abort()
        await until(lambda: not w.delivering.unauthenticated_count)


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = Asset.of("application/octet-stream", b"x" * 4_000_000)


@pytest.mark.parametrize("second", [GET, GET * 50, b"garbage", b"\x16\x03\x01", upgrade("Upgrade")])
async def test_of_several_requests_in_one_segment_the_first_is_answered(second: bytes) -> None:
    async with world() as w:
        answer = await exchange(w, GET + second)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.endswith(b"\r\n\r\nok\n")
        await until(lambda: not (w.delivering.unauthenticated_count or w.delivering.sockets))


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz", b"/metrics", b"/nothing"])
async def test_a_request_with_a_half_close_is_answered(path: bytes) -> None:
    async with world() as w:
        answer = await exchange(w, GET.replace(b"/healthz", path), half_close=True)
        assert answer.startswith(b"HTTP/1.1 404 " if path == b"/nothing" else b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in answer
        await until(lambda: not (w.delivering.unauthenticated_count or w.delivering.sockets))


async def test_a_large_answer_after_a_half_close_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "HALF_CLOSED_S", 10 * WITHIN_S)
    async with world(assets={"/large": LARGE}) as w:
        async with asyncio.timeout(WITHIN_S):  # the server closes by itself, not by its deadline
            answer = await exchange(w, GET.replace(b"/healthz", b"/large") + GET, half_close=True)
        assert answer.partition(b"\r\n\r\n")[2] == LARGE.body


async def test_half_a_request_with_a_half_close_leaves_nothing_behind() -> None:
    async with world() as w:
        assert await exchange(w, GET[:-2], half_close=True) == b""
        await until(lambda: not (w.delivering.unauthenticated_count or w.delivering.sockets))


@both_ways
async def test_what_was_said_before_a_half_close_is_carried_out_and_answered(connection: str) -> None:
    async with world() as w:
        frames = text(action="authenticate", token=w.token()) + text(action="note", id="n", text="x")
        answer = await exchange(w, upgrade(connection) + frames, half_close=True)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert answer.index(b"authentication_result") < answer.index(b'"type":"success"')
        await until(lambda: w.log.head("user/42").seq == 1)
        await until(lambda: not (w.delivering.unauthenticated_count or len(w.ticked) or w.delivering.sockets))


@both_ways
@pytest.mark.parametrize("good", [True, False])
async def test_a_sign_in_before_a_half_close_is_answered(connection: str, good: bool) -> None:
    async with world() as w:
        token = w.token() if good else "nonsense"
        frames = text(action="authenticate", token=token)
        answer = await exchange(w, upgrade(connection) + frames, half_close=True)
        assert b'"type":"authentication_result","success":%s' % str(good).lower().encode() in answer
        await until(lambda: not (w.delivering.unauthenticated_count or w.delivering.sockets))


async def test_a_client_that_asked_nothing_more_is_gone_with_its_half_close() -> None:
    async with world() as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
        writer.write(upgrade("Upgrade") + text(action="authenticate", token=w.token()))
        async with asyncio.timeout(WITHIN_S):
            await reader.readuntil(b"authentication_result")
            writer.write_eof()
            await reader.read()
        await until(lambda: not (len(w.ticked) or w.delivering.sockets))
        writer.close()


async def test_a_command_that_is_never_answered_holds_a_half_closed_socket_for_a_bounded_time() -> None:
    async with world(TransportSettings(close_timeout_s=0.1)) as w:
        w.hold = asyncio.Event()
        frames = text(action="authenticate", token=w.token()) + text(action="note", id="n", text="x")
        with contextlib.suppress(ConnectionError):
            answer = await exchange(w, upgrade("Upgrade") + frames, half_close=True)
            assert b'"type":"success"' not in answer
        w.hold.set()
        await until(lambda: not (len(w.ticked) or w.delivering.sockets))


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
        await until(lambda: not (w.delivering.unauthenticated_count or w.delivering.sockets))


async def test_a_request_for_a_websocket_is_not_counted() -> None:
    """The requests of an address are bounded. A sign-in after a storm of them must still come in."""
    async with world() as w:
        w.site.limit = RequestLimit(1)
        for _ in range(20):
            async with raw(w.url, V1) as client:
                await client.authenticate(w.token())
        asked = GET.replace(b"healthz", b"healthz2")
        answers = [await exchange(w, asked, half_close=True) for _ in range(20)]
        assert answers[0].startswith(b"HTTP/1.1 404 ")
        assert answers[-1].startswith(b"HTTP/1.1 429 ")
        async with raw(w.url, V1) as client:
            await client.authenticate(w.token())
