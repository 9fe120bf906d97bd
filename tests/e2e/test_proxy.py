"""The chaos proxy does to a connection what its methods say: other tests rely on it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.patience import WITHIN_S
from tests.support.servers.proxy import ChaosProxy, chaos_proxy


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(1000):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def _with_proxy(test: Callable[[ChaosProxy], Awaitable[None]]) -> None:
    async def main() -> None:
        server = await asyncio.start_server(_echo, "127.0.0.1", 0)
        async with (
            asyncio.timeout(WITHIN_S),
            server,
            chaos_proxy(server.sockets[0].getsockname()[1]) as proxy,
        ):
            await test(proxy)

    asyncio.run(main())


async def _connected(proxy: ChaosProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    return reader, writer


def test_a_cut_is_a_reset_for_the_client() -> None:
    async def test(proxy: ChaosProxy) -> None:
        reader, writer = await _connected(proxy)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()

    _with_proxy(test)


def test_a_blackhole_holds_bytes_back_until_it_is_healed() -> None:
    async def test(proxy: ChaosProxy) -> None:
        reader, writer = await _connected(proxy)
        proxy.blackhole()
        writer.write(b"later")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.read(1)
        proxy.heal()
        assert await reader.readexactly(5) == b"later"
        writer.close()

    _with_proxy(test)


def test_a_connection_ends_after_so_many_bytes_from_the_server() -> None:
    async def test(proxy: ChaosProxy) -> None:
        proxy.cut_after_bytes = 8
        reader, writer = await _connected(proxy)
        writer.write(b"abcdef")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(4)
        writer.close()

    _with_proxy(test)


def test_a_half_close_is_passed_on() -> None:
    async def test(proxy: ChaosProxy) -> None:
        reader, writer = await _connected(proxy)
        writer.write(b"end")
        writer.write_eof()
        assert await reader.read() == b"end"
        writer.close()

    _with_proxy(test)


def test_new_connections_are_reset_while_it_refuses() -> None:
    async def test(proxy: ChaosProxy) -> None:
        proxy.refuse()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        proxy.heal()
        _, writer = await _connected(proxy)
        writer.close()
        assert proxy.accepted == 1

    _with_proxy(test)
