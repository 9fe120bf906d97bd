"""The fast handshake: it accepts only what the library accepts. And the lobby's limits on silent sockets."""

import asyncio
import base64

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.server import ServerProtocol

from huahuo.transport.wire import lobby
from huahuo.transport.wire.lobby import Greeting, Lobby, Welcomes, understood

pytestmark = pytest.mark.virtual_time

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
USUAL = {
    "Host": "example.org:8765",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Protocol": "huahuo.v1.zstd, huahuo.v1",
    "Origin": "https://example.org",
}


def head(*extra: str, first: str = "GET /ws HTTP/1.1", **changed: str | None) -> bytes:
    fields: dict[str, str | None] = {**USUAL, **{k.replace("_", "-"): v for k, v in changed.items()}}
    lines = [first, *(f"{name}: {value}" for name, value in fields.items() if value is not None), *extra]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def by_library(data: bytes) -> Response | None:
    """The library's answer; None if it cannot even read the request."""
    protocol = ServerProtocol(select_subprotocol=lambda _self, offered: offered[0] if offered else None)
    protocol.receive_data(data)
    requests = protocol.events_received()
    return protocol.accept(requests[0]) if requests else None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        head(),
        head(Sec_WebSocket_Protocol=None, Origin=None),
        head(Connection="keep-alive, Upgrade", Upgrade="WebSocket"),
        head("X-Forwarded-For: 1.2.3.4,\t5.6.7.8", "Sec-WebSocket-Extensions: permessage-deflate"),
        head(first="GET /any?token=%20 HTTP/1.1"),
    ],
)
def test_a_usual_request_is_understood_and_answered_as_by_the_library(data: bytes) -> None:
    asked = understood(data + b"\x81\x80more")
    assert asked is not None
    assert asked.size_bytes == len(data)
    theirs = by_library(data)
    assert theirs is not None
    assert theirs.status_code == 101
    chosen = asked.offered[0] if asked.offered else None
    ours = Welcomes().answer(asked.accept, chosen, 1_790_000_000_123)
    theirs.headers = Headers([pair for pair in theirs.headers.raw_items() if pair[0] != "Date"])
    without_date = [line for line in ours.split(b"\r\n") if not line.startswith(b"Date: ")]
    assert b"Date: Mon, 21 Sep 2026 14:13:20 GMT" in ours.split(b"\r\n")
    assert b"\r\n".join(without_date) == theirs.serialize()


@pytest.mark.parametrize(
    "data",
    [
        head()[:-1],
        b"",
        b"\x16\x03\x01",
        head(first="POST / HTTP/1.1"),
        head(first="GET / HTTP/1.0"),
        head(first="GET /a b HTTP/1.1"),
        head(first="GET /\x7f HTTP/1.1"),
        head().replace(b"\r\n", b"\n"),
        head(Upgrade=None),
        head(Upgrade="h2c"),
        head(Connection="close"),
        head(Connection=None),
        head(Sec_WebSocket_Version="8"),
        head(Sec_WebSocket_Version=None),
        head(Sec_WebSocket_Key=None),
        head(Sec_WebSocket_Key="AAAA"),
        head(Sec_WebSocket_Key="!" * 24),
        head(Sec_WebSocket_Key=base64.b64encode(bytes(17)).decode()),
        head(Sec_WebSocket_Protocol="a b"),
        head(Sec_WebSocket_Protocol="x" * 1000),
        head("Host: other"),
        head("host: other"),
        head("Sec-WebSocket-Key: " + KEY),
        head("Content-Length: 5"),
        head("Transfer-Encoding: chunked"),
        head("Bad Name: 1"),
        head(" folded: 1"),
        head("X: \x00"),
        head("X: ü"),
        head("X: " + "y" * 5000),
        head(*[f"X-{n}: 1" for n in range(100)]),
    ],
)
def test_anything_else_is_left_to_the_library(data: bytes) -> None:
    assert understood(data) is None


class Cut:
    """A transport that only records whether it was aborted."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Deaf:
    """A greeter that never takes a transport over."""

    def spoke(self, greeting: Greeting, data: bytes) -> None:
        pass

    def undecided(self, data: bytes) -> bool:
        return False


def arrive(lobby: Lobby) -> tuple[Greeting, Cut]:
    greeting, cut = Greeting(Deaf(), lobby), Cut()
    greeting.connection_made(cut)  # type: ignore[arg-type]
    return greeting, cut


async def test_only_a_client_that_says_nothing_in_time_is_cut_off() -> None:
    lobby = Lobby(10, timeout_s=10)
    _first, cut = arrive(lobby)
    await asyncio.sleep(6)
    second, cut_second = arrive(lobby)
    _third, cut_third = arrive(lobby)
    await asyncio.sleep(5)
    assert (cut.aborted, cut_second.aborted, cut_third.aborted) == (True, False, False)
    second.data_received(b"GET")
    await asyncio.sleep(6)
    assert (cut_second.aborted, cut_third.aborted) == (False, True)


async def test_the_oldest_gives_way_when_the_lobby_is_full() -> None:
    lobby = Lobby(2, timeout_s=10)
    (_, a), (second, b), (_, c) = arrive(lobby), arrive(lobby), arrive(lobby)
    assert (a.aborted, b.aborted, c.aborted) == (True, False, False)
    second.connection_lost(None)
    lobby.close()
    assert (b.aborted, c.aborted) == (False, True)


async def test_a_socket_that_comes_after_the_lobby_was_closed_is_cut_off() -> None:
    lobby = Lobby(2, timeout_s=10)
    lobby.close()
    _, cut = arrive(lobby)
    assert (cut.aborted, len(lobby)) == (True, 0)


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (head(Origin="https://kept.example"), 1),
        (head("Authorization: Bearer canary"), 0),
        (head("COOKIE:session=canary"), 0),
        (head("Proxy-Authorization: Basic canary"), 0),
        (head(first="GET /ws?access_token=canary HTTP/1.1"), 0),
    ],
)
def test_a_head_with_a_secret_is_understood_and_not_kept(data: bytes, kept: int) -> None:
    before = lobby.kept.cache_info().misses
    assert understood(data) is not None
    assert lobby.kept.cache_info().misses - before == kept
