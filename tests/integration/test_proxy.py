"""The chaos proxy does to a connection what its methods say: other tests rely on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

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


@asynccontextmanager
async def echo_behind_proxy() -> AsyncIterator[ChaosProxy]:
    """The proxy before a server that sends back what it gets."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server, chaos_proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def _connected(proxy: ChaosProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    return reader, writer


async def test_a_cut_is_a_reset_for_the_client() -> None:
    async with echo_behind_proxy() as proxy:
        reader, writer = await _connected(proxy)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_blackhole_holds_bytes_back_until_it_is_healed() -> None:
    async with echo_behind_proxy() as proxy:
        reader, writer = await _connected(proxy)
        proxy.blackhole()
        writer.write(b"later")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.read(1)
        proxy.heal()
        assert await reader.readexactly(5) == b"later"
        writer.close()


async def test_a_blackhole_begins_behind_a_given_number_of_bytes_from_servers() -> None:
    async with echo_behind_proxy() as proxy:
        reader, writer = await _connected(proxy)
        proxy.blackhole(after_bytes=8)
        writer.write(b"ten or more bytes")
        await proxy.silent.wait()
        assert await reader.readexactly(8) == b"ten or m"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.read(1)
        proxy.heal()
        assert not proxy.silent.is_set()
        assert await reader.readexactly(9) == b"ore bytes"
        writer.close()


async def test_a_connection_ends_after_a_given_number_of_bytes_from_the_server() -> None:
    async with echo_behind_proxy() as proxy:
        proxy.cut_after_bytes = 8
        reader, writer = await _connected(proxy)
        writer.write(b"abcdef")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(4)
        writer.close()


async def test_a_half_close_is_passed_on() -> None:
    async with echo_behind_proxy() as proxy:
        reader, writer = await _connected(proxy)
        writer.write(b"end")
        writer.write_eof()
        assert await reader.read() == b"end"
        writer.close()


async def test_new_connections_are_reset_while_it_refuses() -> None:
    async with echo_behind_proxy() as proxy:
        proxy.refuse()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        proxy.heal()
        _, writer = await _connected(proxy)
        writer.close()
        assert proxy.accepted == 1
