"""What a client may send before it has authenticated: 64 KiB a message, looked at in the frame's header."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from websockets.frames import BINARY, CONT, PING, PONG, TEXT, Frame, Opcode

from huahuo.transport.access.door import AddressDoor
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.wire.site import Asset
from huahuo.transport.wire.web_socket import CONTROLS_MAX
from tests.support.drivers.rawclient import raw
from tests.support.patience import WITHIN_S
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"
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
    writer.write(
        f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: {connection}\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: {V1}\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


both_ways = pytest.mark.parametrize(
    "connection", ["Upgrade", "Upgrade, keep-alive"], ids=["short way", "long way"]
)


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
