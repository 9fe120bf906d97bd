"""The compressed protocol over real sockets, and the Python client at its other end."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import zstandard
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from huahuo.eventstore.zstd_frames import Compressor, Dictionary
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import Offline, Online, Problem
from huahuo.transport.http.site import Asset
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import dictionary_path
from scripts.train_dictionary import made_up
from tests.support.drivers.clients import STREAM, Heard, behind_proxy, client_of, collect, texts
from tests.support.drivers.rawclient import raw
from tests.support.worlds.compressed import compression, dictionary
from tests.support.worlds.wire import world

ZSTD, PLAIN = "huahuo.v1.zstd", "huahuo.v1"
ASSETS = {dictionary_path(dictionary().id): Asset.of("application/octet-stream", dictionary().data)}


async def test_nothing_is_compressed_before_authentication() -> None:
    async with world(compression=compression()) as server, raw(server.url, ZSTD) as client:
        await client.say(action="heartbeat", id="a" * 60)  # unpack is not set: binary would fail
        await client.say(action="subscribe", stream=STREAM, id="b" * 60)
        await client.until("error", code="unauthenticated")
        result = await client.authenticate(server.token())
        assert result["dictionary"]["id"] == dictionary().id


async def test_the_client_fetches_the_dictionary_once_and_sees_what_a_plain_one_sees() -> None:
    async with behind_proxy(compression=compression(), assets=ASSETS) as (server, proxy):
        await server.append(STREAM, "a", "b")
        async with client_of(server, proxy.port) as client, client.events(STREAM, "start") as events:
            heard = Heard(client)
            seen = await collect(events, 2)
            opened = proxy.accepted
            proxy.cut()
            await heard.wait(Offline)
            await server.append(STREAM, "c", "d")
            seen += await collect(events, 2)
            assert proxy.accepted == opened + 1  # the socket, and no second fetch
        assert opened == 2
        async with (
            client_of(server, client="other", compression=False) as plain,
            plain.events(STREAM, "start") as events,
        ):
            assert await collect(events, 4) == seen
        assert texts(seen) == ["a", "b", "c", "d"]


async def test_without_the_dictionary_the_client_goes_on_in_plain_text() -> None:
    async with world(compression=compression()) as server:  # the file is not served
        client = client_of(server)
        heard = Heard(client)
        async with client, client.events(STREAM, "start") as events:
            await server.append(STREAM, "a")
            assert texts(await collect(events, 1)) == ["a"]
        assert "compressed" in heard.of(Problem)[0].message
        assert len(heard.of(Online)) == 2


def framed(data: bytes) -> bytes:
    return Compressor(dictionary(), 3).compress(data)


def naming(one: Dictionary) -> zstandard.ZstdCompressor:
    """Makes frames that name their dictionary."""
    return zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(one.data))


def other() -> Dictionary:
    return made_up(9, 1024, tries=20)


EVENTS = msgspec.json.encode(
    {"type": "events", "stream": "user/1", "seq": 1, "events": [{"type": "x", "timestamp": "t"}] * 9}
)


@pytest.mark.parametrize(
    ("frame", "served"),
    [
        (framed(EVENTS)[:-2], dictionary().data),
        (framed(EVENTS) + b"!", dictionary().data),
        (b"no frame", dictionary().data),
        (zstandard.compress(bytes(200_000_000), 19), dictionary().data),
        (framed(bytes(18 << 20)), dictionary().data),
        (naming(other()).compress(EVENTS), dictionary().data),
        (framed(EVENTS), other().data),
        (framed(EVENTS), b"no dictionary"),
        (framed(EVENTS), bytes(2 << 20)),
    ],
    ids=[
        "cut", "more behind", "no frame", "bomb", "too large", "frame of another dictionary",
        "another dictionary", "no dictionary", "huge dictionary",
    ],
)  # fmt: skip
async def test_what_cannot_be_unpacked_ends_the_connection_and_the_next_one_is_plain(
    frame: bytes, served: bytes
) -> None:
    offers: list[str] = []

    async def answer(socket: ServerConnection) -> None:
        offers.append(str(socket.request and socket.request.headers["Sec-WebSocket-Protocol"]))
        await socket.recv()
        place = {"id": dictionary().id, "url": "/dictionary/1"}
        result = {"type": "authentication_result", "success": True, "log": "m", "dictionary": place}
        await socket.send(msgspec.json.encode(result).decode())
        if socket.subprotocol == ZSTD:
            await socket.send(frame)
        await socket.wait_closed()

    async with fake_server(answer, lambda: served) as port:
        client = Client(f"127.0.0.1:{port}", token="t", backoff_s=(0.001, 0.002))
        heard = Heard(client)
        async with client:
            await heard.wait(Online, 2)
        assert offers == [f"{ZSTD}, {PLAIN}", PLAIN]
        problem = heard.of(Problem)[0]
        assert problem.code == "protocol_violation"


async def test_after_a_restart_with_another_dictionary_the_new_one_is_used() -> None:
    turns = [dictionary(), other()]
    served = iter([one.data for one in turns])
    left = iter(turns)

    async def answer(socket: ServerConnection) -> None:
        used = next(left, None)
        if used is None:
            return
        await socket.recv()
        place = {"id": used.id, "url": "/dictionary/x"}
        result = {"type": "authentication_result", "success": True, "log": "m", "dictionary": place}
        await socket.send(msgspec.json.encode(result).decode())
        said = msgspec.json.encode({"type": "error", "code": "busy", "message": str(used.id)})
        await socket.send(Compressor(used, 3).compress(said))
        await socket.close(CloseCode.DRAINING)

    async with fake_server(answer, lambda: next(served)) as port:
        client = Client(f"127.0.0.1:{port}", token="t", backoff_s=(0.001, 0.002))
        heard = Heard(client)
        async with client:
            await heard.wait(Problem, 2)
        assert [one.message for one in heard.of(Problem)] == [str(one.id) for one in turns]


async def test_a_binary_message_that_was_not_agreed_upon_is_a_breach() -> None:
    async def answer(socket: ServerConnection) -> None:
        await socket.send(framed(EVENTS))
        await socket.wait_closed()

    async with fake_server(answer, lambda: b"", [PLAIN]) as port:
        client = Client(f"127.0.0.1:{port}", token="t", backoff_s=(0.001, 0.002))
        heard = Heard(client)
        async with client:
            assert "binary" in (await heard.wait(Problem)).message


@pytest.mark.parametrize("url", ["//elsewhere/dictionary/1", "http://elsewhere/", "/a b", "/a\r\nX: y", ""])
async def test_a_dictionary_from_elsewhere_is_not_fetched(url: str) -> None:
    fetched = 0

    def serve_it() -> bytes:
        nonlocal fetched
        fetched += 1
        return dictionary().data

    async def answer(socket: ServerConnection) -> None:
        await socket.recv()
        place = {"id": dictionary().id, "url": url}
        result = {"type": "authentication_result", "success": True, "log": "m", "dictionary": place}
        await socket.send(msgspec.json.encode(result).decode())
        await socket.send(framed(EVENTS))
        await socket.wait_closed()

    async with fake_server(answer, serve_it) as port:
        client = Client(f"127.0.0.1:{port}", token="t", backoff_s=(0.001, 0.002))
        heard = Heard(client)
        async with client:
            assert "path on the server" in (await heard.wait(Problem)).message
    assert fetched == 0


def fake_server(
    answer: Callable[[ServerConnection], Awaitable[None]],
    served: Callable[[], bytes],
    spoken: list[str] | None = None,
) -> Any:
    """A server of our own making; plain GETs are answered with `served`."""

    def plain(_connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        data = served()
        return Response(200, "OK", Headers({"Content-Length": str(len(data))}), data)

    class Fake:
        async def __aenter__(self) -> int:
            names = [Subprotocol(name) for name in spoken or [ZSTD, PLAIN]]
            self.server = await serve(
                answer, "127.0.0.1", 0, compression=None, subprotocols=names, process_request=plain
            )
            return int(self.server.sockets[0].getsockname()[1])

        async def __aexit__(self, *_exception: object) -> None:
            self.server.close()
            await self.server.wait_closed()

    return Fake()
