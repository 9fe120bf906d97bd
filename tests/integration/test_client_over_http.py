"""The Python client in a network that lets no WebSocket through: it goes over plain HTTP by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from huahuo.transport.client.model import CommandError, Offline, Online, Stopped, StreamDenied
from tests.support.drivers.clients import STREAM, Heard, client_of, collect, texts
from tests.support.patience import WITHIN_S
from tests.support.servers.refusing_proxy import RefusingProxy, refusing_proxy
from tests.support.worlds.wire import World, world


@asynccontextmanager
async def blocked() -> AsyncIterator[tuple[World, RefusingProxy]]:
    """A server, and a proxy in front of it that refuses every upgrade."""
    async with asyncio.timeout(WITHIN_S), world() as server, refusing_proxy(server.port) as proxy:
        yield server, proxy


async def test_every_event_comes_once_though_upgrades_are_refused_and_connections_cut() -> None:
    async with blocked() as (server, proxy), client_of(server, proxy.port) as client:
        await server.append(STREAM, *(f"event {n}" for n in range(600)))  # more than one page
        async with client.events(STREAM, "start") as events:
            seen = await collect(events, 600)
            assert proxy.refused == 2
            await server.append(STREAM, "live")
            seen += await collect(events, 1)
            proxy.cut()
            await server.append(STREAM, "while away")
            seen += await collect(events, 1)
        assert [event.seq for event in seen] == list(range(1, 603))
        assert texts(seen[-2:]) == ["live", "while away"]
        assert proxy.refused == 2, "what works is used again after a cut"


async def test_commands_are_answered_and_refused() -> None:
    async with blocked() as (server, proxy), client_of(server, proxy.port) as client:
        assert (await client.send("note", text="hello"))["type"] == "success"
        with pytest.raises(CommandError) as caught:
            await client.send("note", text=7)
        assert caught.value.code == "invalid_field"
        assert server.executed == 1


async def test_a_command_can_be_waited_for_until_its_event_was_processed() -> None:
    async with (
        blocked() as (server, proxy),
        client_of(server, proxy.port) as client,
        client.events(STREAM, "start") as events,
    ):
        reply = await client.send("note", text="hello")
        reading = asyncio.create_task(collect(events, 2))
        await client.wait_for(reply["at"])
        reading.cancel()


async def test_a_stream_of_another_user_is_denied() -> None:
    async with (
        blocked() as (server, proxy),
        client_of(server, proxy.port) as client,
        client.events("user/7", "start") as events,
    ):
        with pytest.raises(StreamDenied):
            await anext(events)


async def test_what_was_processed_is_acked() -> None:
    async with blocked() as (server, proxy), client_of(server, proxy.port, client="c1") as client:
        await server.append(STREAM, "a", "b")
        acked = server.hub.acked("c1", STREAM, 1)
        async with client.events(STREAM, "start") as events:
            await collect(events, 2)
            await acked


async def test_a_token_that_is_not_valid_stops_the_client() -> None:
    async with blocked() as (server, proxy), client_of(server, proxy.port, token="no.token.this") as client:
        assert (await client.wait_stopped()).code == 4500


async def test_a_server_that_is_down_is_asked_for_a_websocket_again() -> None:
    async with blocked() as (server, proxy), client_of(server, proxy.port) as client:
        heard = Heard(client)
        await heard.wait(Online)
        proxy.refuses = False
        await server.server.drain(0.1)
        await heard.wait(Offline, 6)
        assert proxy.refused == 2
        assert not heard.of(Stopped)
