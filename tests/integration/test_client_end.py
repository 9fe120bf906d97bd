"""When the Python client gives up, when it gets a new token, and what its users are told."""

import asyncio
import contextlib

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from huahuo.transport.client.client import Client
from huahuo.transport.client.connection import SUBPROTOCOL
from huahuo.transport.client.model import (
    ClientStopped,
    CommandError,
    Offline,
    Online,
    Problem,
    StreamDenied,
    TokenExpiring,
)
from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.clients import STREAM, Heard, behind_proxy, client_of, collect, texts
from tests.support.patience import WITHIN_S
from tests.support.worlds.wire import World


async def test_a_token_that_the_server_does_not_accept_stops_it() -> None:
    async with behind_proxy() as (server, _), client_of(server, token="nonsense") as client:
        with pytest.raises(ClientStopped) as stopped:
            await client.wait_online()
        assert stopped.value.code == 4500
        assert client.state == "stopped"


async def test_a_newer_connection_of_the_same_installation_stops_the_older() -> None:
    async with behind_proxy() as (server, _), client_of(server, client="dev") as older:
        await older.wait_online()
        async with older.events(STREAM) as events, client_of(server, client="dev") as newer:
            await newer.wait_online()
            with pytest.raises(ClientStopped) as stopped:
                await collect(events, 1)
            assert stopped.value.code == 4009
            assert newer.state == "online"


async def test_a_revoked_user_stops() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        await client.wait_online()
        for connection in server.hub.connections:
            connection.close(CloseCode.REVOKED, "revoked")
        assert (await client.wait_stopped()).code == 4503


async def _live_on(server: World, client: Client, seconds: int) -> None:
    """Let the server's clock run while the client is heard now and then."""
    for _ in range(seconds // 10):
        with contextlib.suppress(ClientStopped):
            await client.send("echo", text="")
        server.tick(10)


async def test_a_token_is_refreshed_in_place_before_it_expires() -> None:
    async with behind_proxy() as (server, proxy):
        # a window of 2: each event is acknowledged at once, however fast the server's clock runs
        client = client_of(server, proxy.port, get_token=lambda: server.token(ttl_s=100), window=2)
        heard = Heard(client)
        async with client, client.events(STREAM, "start") as events:
            await events.ready()
            reading = asyncio.create_task(collect(events, 3))
            await server.append(STREAM, "a")
            await _live_on(server, client, 50)
            await heard.wait(TokenExpiring)
            await client.send("note", text="after the refresh")
            await _live_on(server, client, 60)
            await client.send("note", text="after the first token's end")
            seen = await reading
        assert texts(seen) == ["a", "after the refresh", "after the first token's end"]
        assert proxy.accepted == len(heard.of(Online)) == 1


async def test_an_expired_token_is_replaced_by_a_new_one_on_the_next_connection() -> None:
    async with behind_proxy() as (server, _):
        given = 0

        async def get_token() -> str:
            nonlocal given
            given += 1
            if given == 2:
                raise RuntimeError("the refresh in place does not work")
            return server.token(ttl_s=100)

        client = client_of(server, get_token=get_token)
        heard = Heard(client)
        async with client:
            await client.wait_online()
            await _live_on(server, client, 100)
            await heard.wait(Online, 2)
            assert [offline.code for offline in heard.of(Offline)] == [4003]


async def test_a_token_that_cannot_be_renewed_stops_it_when_it_expires() -> None:
    async with behind_proxy() as (server, _), client_of(server, token=server.token(ttl_s=100)) as client:
        await client.wait_online()
        await _live_on(server, client, 100)
        assert (await client.wait_stopped()).code == 4003


async def test_a_source_that_gives_the_expired_token_again_stops_it() -> None:
    async with behind_proxy() as (server, _):
        token = server.token(ttl_s=100)
        async with client_of(server, get_token=lambda: token) as client:
            await client.wait_online()
            await _live_on(server, client, 100)
            assert (await client.wait_stopped()).code == 4003


async def test_a_source_of_tokens_that_fails_is_asked_again() -> None:
    async with behind_proxy() as (server, _):
        asked = 0

        def get_token() -> str:
            nonlocal asked
            asked += 1
            if asked < 3:
                raise RuntimeError("canary-in-exception")
            return server.token()

        client = client_of(server, get_token=get_token)
        heard = Heard(client)
        async with client:
            await client.wait_online()
        assert len(heard.of(Offline)) == 2
        assert "canary" not in repr(heard.all)


async def test_a_stream_that_may_not_be_read_is_an_exception() -> None:
    async with behind_proxy() as (server, _), client_of(server) as client:
        async with client.events("user/43") as events:
            with pytest.raises(StreamDenied):
                await events.ready()
            with pytest.raises(StreamDenied):
                await collect(events, 1)
        assert (await client.send("note", text="goes on"))["type"] == "success"


async def test_a_server_that_speaks_something_else_stops_it() -> None:
    async def idle(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with asyncio.timeout(WITHIN_S), serve(idle, "127.0.0.1", 0, compression=None) as other:
        port = other.sockets[0].getsockname()[1]
        async with Client(f"ws://127.0.0.1:{port}", token="t") as client:
            assert (await client.wait_stopped()).code == 4506


async def test_a_server_that_talks_nonsense_is_left_and_tried_again() -> None:
    connections = 0

    async def babble(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await socket.send("not JSON")
        await socket.wait_closed()

    subprotocols = [Subprotocol(SUBPROTOCOL)]
    async with (
        asyncio.timeout(WITHIN_S),
        serve(babble, "127.0.0.1", 0, compression=None, subprotocols=subprotocols) as other,
    ):
        port = other.sockets[0].getsockname()[1]
        client = Client(f"127.0.0.1:{port}", token="t", backoff_s=(0.001, 0.002))
        heard = Heard(client)
        async with client:
            await heard.wait(Problem, 2)
        assert connections >= 2


async def test_the_client_comes_back_after_a_drain() -> None:
    async with behind_proxy() as (server, proxy):
        client = client_of(server, proxy.port)
        heard = Heard(client)
        async with client:
            await client.wait_online()
            await server.server.drain(2)
            offline = await heard.wait(Offline)
            assert offline.code == 4000


async def test_neither_token_nor_password_shows_in_anything_that_is_told() -> None:
    async with behind_proxy() as (server, proxy):
        token = server.token()
        client = client_of(server, proxy.port, token=token)
        heard = Heard(client)
        async with client:
            with pytest.raises(CommandError) as refused:
                await client.send("note", text="refuse", password="canary-77")
            proxy.cut()
            await heard.wait(Online, 2)
        told = repr(heard.all) + repr(client) + repr(refused.value)
        assert "canary-77" not in told
        assert token not in told


@pytest.mark.parametrize("url", ["ftp://host", "", "ws://", "https:///"])
def test_an_address_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        Client(url, token="t")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("127.0.0.1:8765", "ws://127.0.0.1:8765"),
        ("http://h:1/#token=x", "ws://h:1/"),
        ("https://h/ws", "wss://h/ws"),
        ("wss://h", "wss://h"),
    ],
)
def test_an_address_may_be_written_in_several_ways(given: str, meant: str) -> None:
    assert Client(given, token="t").url == meant


def test_one_source_of_tokens_is_needed() -> None:
    with pytest.raises(ValueError, match="token"):
        Client("h:1")
    with pytest.raises(ValueError, match="token"):
        Client("h:1", token="t", get_token=lambda: "t")
