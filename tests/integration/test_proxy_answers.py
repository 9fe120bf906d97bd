"""Answers of proxies as they come over a socket: in pieces, with more behind them, cut off."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from huahuo.mailcheck.servers.faults import ProxyFailed
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.providers import Proxy, parse_proxy
from tests.support.patience import WITHIN_S

GREETING = b"* OK ready"
OK = b"HTTP/1.0 200 Connection established\r\nProxy-agent: x\r\n\r\n"
SOCKS_OK = b"\x05\x00\x00\x03\x05proxy\x00\x01"

type Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def proxy(scheme: str, play: Play) -> AsyncIterator[Proxy]:
    """A proxy that does as the test says, after it read what it was asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if scheme == "http":
            await reader.readuntil(b"\r\n\r\n")
        else:
            await reader.readexactly(3)
            writer.write(b"\x05\x00")
            await reader.readexactly(10)
        await play(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        made = parse_proxy(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", trusted=True)
        assert made is not None
        yield made


async def greeting(through: Proxy) -> bytes:
    """The first line of the mail server behind a proxy."""
    network = Network(allow_private=True)
    stream = await network.open_stream(
        "127.0.0.1", 143, use_ssl=False, timeout_s=WITHIN_S, listed=False, proxy=through
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            return await stream.read_line(1000)
    finally:
        stream.abort()


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_what_the_mail_server_says_behind_the_answer_in_one_segment_is_its_greeting(
    scheme: str,
) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((OK if scheme == "http" else SOCKS_OK) + GREETING + b"\r\n")
        await reader.read()

    async with proxy(scheme, play) as through:
        assert await greeting(through) == GREETING


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_an_answer_may_come_byte_by_byte(scheme: str) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in OK if scheme == "http" else SOCKS_OK:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(GREETING + b"\r\n")
        await reader.read()

    async with proxy(scheme, play) as through:
        assert await greeting(through) == GREETING


@pytest.mark.parametrize(("line_bytes", "read"), [(2_000, True), (5_000, False)])
async def test_the_head_of_an_answer_is_bounded(line_bytes: int, read: bool) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK[:-2] + b"X-Pad: " + b"x" * line_bytes + b"\r\n\r\n" + GREETING + b"\r\n")
        with suppress(ConnectionResetError):
            await reader.read()

    async with proxy("http", play) as through:
        if read:
            assert await greeting(through) == GREETING
        else:
            with pytest.raises(ProxyFailed):
                await greeting(through)


async def test_an_unknown_name_of_a_proxy_is_a_failure_of_the_proxy() -> None:
    async def resolver(host: str, _port: int) -> list[str]:
        if host == "proxy.invalid":
            raise OSError("unknown")
        return ["93.184.216.34"]

    through = parse_proxy("http://proxy.invalid:3128")
    network = Network(resolver=resolver)
    with pytest.raises(ProxyFailed):
        await network.open_stream("imap.example", 993, use_ssl=True, timeout_s=WITHIN_S, proxy=through)


@pytest.mark.parametrize(
    ("scheme", "answer"),
    [
        ("http", b""),
        ("http", OK[:20]),
        ("http", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad"),
        ("http", b"HTTP/1.1 407\r\n\r\n"),
        ("http", b"SSH-2.0-OpenSSH\r\n\r\n"),
        ("http", b"X" * 40_000),
        ("socks5", b""),
        ("socks5", SOCKS_OK[:5]),
        ("socks5", b"\x05\x05\x00\x01"),
        ("socks5", b"\x05\xc8\x00\x01\x00\x00\x00\x00\x00\x00"),
        ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ],
)
async def test_an_answer_that_is_none_is_a_failure_of_the_proxy(scheme: str, answer: bytes) -> None:
    async def play(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    async with proxy(scheme, play) as through:
        with pytest.raises(ProxyFailed):
            await greeting(through)


@pytest.mark.parametrize(
    ("host", "trusted", "public"),
    [("127.0.0.1", False, False), ("proxy.example", False, True), ("proxy.example", True, False)],
)
async def test_a_users_own_proxy_sees_no_password_of_a_server_without_tls(
    host: str, *, trusted: bool, public: bool
) -> None:
    async def play(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    async with proxy("http", play) as listening:
        through = msgspec.structs.replace(listening, host=host, trusted=trusted)
        network = Network(allow_private=True, resolver=resolve)
        stream = await network.open_stream("10.0.0.7", 143, use_ssl=False, timeout_s=WITHIN_S, proxy=through)
        assert stream.public is public
        stream.abort()


async def test_a_proxy_that_is_not_there_is_a_failure_of_the_proxy() -> None:
    through = parse_proxy("http://127.0.0.1:1", trusted=True)
    assert through is not None
    with pytest.raises(ProxyFailed):
        await greeting(through)
