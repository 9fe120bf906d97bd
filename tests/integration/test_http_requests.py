"""Requests over HTTP.

Refusals are problem details (RFC 9457) in the client's language, and users pay for theirs.
"""

import asyncio
import contextlib
from collections import Counter
from http import HTTPStatus
from typing import Any

import msgspec
import pytest

from huahuo.actors.plugins.words import texts_of
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.transport.http import native
from huahuo.transport.http.asgi import AsgiTransport
from huahuo.transport.http.asgi_socket import Message
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.words import en, http_en, http_zh, zh
from tests.support.drivers.http import client
from tests.support.patience import WITHIN_S
from tests.support.worlds.people import ALICE, BOB
from tests.support.worlds.wire import World, http, until, world

HANDSHAKE = "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
LONG = "Content-Length: "
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


async def sent(w: World, said: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the only answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
    writer.write(said)
    async with asyncio.timeout(WITHIN_S):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ("GET /streams/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "not_found"),
        ("GET /nothing.txt HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found"),
        ("PROPFIND /streams/system HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
        ("BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
        ("TRACE /ds/a HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
        ("BREW /publish HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
        (f"GET /{'x' * 3000} HTTP/1.1\r\nHost: x\r\n\r\n", 414, "too_large"),
        (f"GET /healthz HTTP/1.1\r\nHost: x\r\nX: {'y' * 70_000}\r\n\r\n", 431, "too_large"),
        (f"GET / HTTP/1.1\r\n{HANDSHAKE}{KEY}Origin: http://evil\r\n\r\n", 403, "forbidden"),
    ],
)
async def test_what_is_no_request_that_is_served_is_a_problem(said: str, status: int, code: str) -> None:
    await is_a_problem(said, status, code)


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ("GARBAGE\r\n\r\n", 400, "bad_message"),
        ("\x16\x03\x01 no HTTP at all\r\n\r\n", 400, "bad_message"),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400, "bad_message"),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_message"),
        ("GET /healthz HTTP/1.1\nHost: x\n\n", 400, "bad_message"),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n", 400, "bad_message"),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 400, "bad_message"),
        ("GET x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_message"),
        ("POST /%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_message"),
        (f"POST /publish HTTP/1.1\r\nHost: x\r\n{LONG}1\r\n{LONG}2\r\n\r\nab", 400, "bad_message"),
        ("POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "bad_message"),
        (f"POST /publish HTTP/1.1\r\nHost: x\r\nA: {'a' * 600_000}\r\n\r\n", 431, "too_large"),
        (f"GET / HTTP/1.1\r\n{HANDSHAKE}\r\n", 400, "bad_message"),
        (f"GET / HTTP/1.1\r\n{HANDSHAKE}{KEY}X: {'y' * 20_000}\r\n\r\n", 431, "too_large"),
        (f"GET / HTTP/1.1\r\n{HANDSHAKE.replace('Host: x', 'A: b')}{KEY}\r\n", 400, "bad_message"),
    ],
)
async def test_what_is_no_http_is_a_problem_too(said: str, status: int, code: str) -> None:
    await is_a_problem(said, status, code)


async def is_a_problem(said: str, status: int, code: str) -> None:
    async with world() as w:
        found, headers, body = await sent(w, said.encode("latin-1"))
        problem = msgspec.json.decode(body)
        assert (found, headers["content-type"]) == (status, "application/problem+json")
        assert (problem["status"], problem["code"]) == (status, code)
        assert problem["type"] == f"urn:huahuo:{code}"
        assert problem["title"] == HTTPStatus(status).phrase


@pytest.mark.parametrize("name", ["X-Odd", "Cookie", "If-None-Match", "Accept-Encoding"])
@pytest.mark.parametrize("value", [b"\x81", b"\xe9\xff", b"a\tb"])
async def test_bytes_in_a_header_that_are_no_text_keep_no_page_from_being_served(
    name: str, value: bytes
) -> None:
    async with world() as w:
        said = b"GET /healthz HTTP/1.1\r\nHost: x\r\n%b: %b\r\n\r\n" % (name.encode(), value)
        assert (await sent(w, said))[::2] == (200, b"ok\n")


CHINESE = {**texts_of(zh), **texts_of(http_zh)}
ENGLISH = {**texts_of(en), **texts_of(http_en)}
CASES = [
    ("GET", "/streams/", "NOTHING_HERE"), ("GET", "/streams/system?limit=0", "LIMIT_NEEDED"),
    ("GET", "/streams/system?after=x", "AFTER_NEEDED"), ("GET", "/streams/user/other", "NOT_YOURS_TO_READ"),
    ("GET", "/seen", "STREAM_AND_CLIENT"), ("GET", "/ds/none", "NOT_YOURS"),
    ("POST", "/publish", "NO_JSON"), ("PUT", "/streams/system", "WRONG_METHOD"),
    ("POST", "/commands/nothing", "NO_SUCH_ACTION"), ("GET", f"/streams/{'x' * 200}", "NAME_TOO_LONG"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "name"), CASES, ids=lambda one: one[:24])
async def test_a_refusal_is_in_the_language_asked_for(method: str, path: str, name: str) -> None:
    async with world() as w, http(w) as c:
        for preferred, words in (
            ("zh-CN,zh;q=0.9,en;q=0.8", CHINESE),
            ("en-GB", ENGLISH),
            ("fr, en;q=0.1", ENGLISH),
        ):
            answer = await c.request(method, path, headers={"Accept-Language": preferred})
            begins = words[name].partition("{}")[0]
            assert answer.json()["detail"].startswith(begins), (preferred, answer.text)


async def test_a_head_has_the_length_of_the_whole_answer() -> None:
    async with world() as w, http(w) as c:
        for path in ("/healthz", "/nothing.txt"):
            whole, head = await c.get(path), await c.head(path)
            assert head.headers["content-length"] == whole.headers["content-length"] != "0"
            assert head.content == b""


async def test_a_page_of_another_origin_may_read_why_a_path_is_not_there() -> None:
    allowed = "https://app.example.org"
    async with world(TransportSettings(origins=(allowed,))) as w, http(w) as c:
        answer = await c.get("/streams/", headers={"Origin": allowed})
        assert answer.headers["access-control-allow-origin"] == allowed
        asks = {"Origin": allowed, "Access-Control-Request-Method": "GET"}
        assert (await c.options("/streams/", headers=asks)).status_code == 204
        answer = await c.get("/nothing.txt", headers={"Origin": allowed})
        assert answer.headers["access-control-allow-origin"] == allowed
        other = await c.get("/nothing.txt", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [("1.1", 0, 400), ("1.1", 1, 200), ("1.1", 2, 400), ("1.0", 0, 200), ("2", 0, 200)],
)
async def test_inside_another_server_too_a_request_of_http_1_1_needs_one_host(
    version: str, hosts: int, status: int
) -> None:
    async with world() as w:
        said: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            said.append(message)

        scope = {
            "type": "http", "http_version": version, "method": "GET", "path": "/healthz",
            "headers": [(b"host", b"x")] * hosts,
        }  # fmt: skip
        await AsgiTransport(w.server, w.api).http(scope, receive, send)
        assert said[0]["status"] == status


async def test_a_body_in_too_many_small_chunks_is_refused_before_they_are_all_read() -> None:
    async with world() as w:
        head = f"POST /acks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token()}\r\n"
        head += "Transfer-Encoding: chunked\r\n\r\n"
        status, headers, body = await sent(w, head.encode() + b"1\r\n \r\n" * 5_000)
        problem = msgspec.json.decode(body)
        assert (status, problem["code"]) == (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large")
        assert problem["detail"] == http_en.CHUNKS_TOO_SMALL
        assert headers["connection"] == "close"


async def test_inside_another_server_each_piece_of_a_body_is_measured_once() -> None:
    measured = 0

    class Piece(bytes):
        def __len__(self) -> int:
            nonlocal measured
            measured += 1
            return super().__len__()

    async with world() as w:
        pieces = [Piece(b" ")] * 100
        said: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

        async def send(message: Message) -> None:
            said.append(message)

        headers = [(b"host", b"x"), (b"authorization", f"Bearer {w.token()}".encode())]
        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": "/acks",
            "headers": [*headers, (b"transfer-encoding", b"chunked")],
        }  # fmt: skip
        await AsgiTransport(w.server, w.api).http(scope, receive, send)
        assert not pieces
        assert said[0]["status"] == HTTPStatus.BAD_REQUEST
        assert measured <= 100


async def test_of_one_user_so_many_requests_are_taken_at_a_time_and_others_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native, "REQUESTS_PER_USER", 2)

    async with world() as w, http(w) as c:
        begun = f"POST /acks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token()}\r\n"
        slow = [await asyncio.open_connection("127.0.0.1", w.port) for _ in range(2)]
        for _, writer in slow:
            writer.write(f"{begun}Content-Length: 1\r\nExpect: 100-continue\r\n\r\n".encode())
        for reader, _ in slow:
            assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert (await c.get("/who")).status_code == HTTPStatus.TOO_MANY_REQUESTS
        async with client(f"http://127.0.0.1:{w.port}", w.token(BOB)) as other:
            assert (await other.get("/who")).status_code == HTTPStatus.OK
        slow[0][1].transport.abort()
        plain = w.server.plain
        assert isinstance(plain, native.NativeHttp)
        await until(lambda: plain.running[ALICE.name] < 2)
        assert (await c.get("/who")).status_code == HTTPStatus.OK
        slow[1][1].transport.abort()


STREAM = "user/42"
REQUESTS = {
    "page": ("GET", f"/streams/{STREAM}", None),
    "seen": ("GET", f"/seen?stream={STREAM}&seq=1&client=c", None),
    "acks": ("POST", "/acks", {"client": "c", "cursors": {STREAM: 1}}),
    "who": ("GET", "/who", None),
}


class Busy(FakeAmbient):
    """A clock on which whatever looks at it takes a microsecond."""

    def monotonic_s(self) -> float:
        self.advance(1e-6)
        return super().monotonic_s()


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_is_charged_to_its_user_and_waits_while_that_user_owes_time(name: str) -> None:
    method, path, body = REQUESTS[name]

    async with world(ambient=Busy()) as w, http(w) as c:
        turns, charged = w.server.turns, Counter[str]()
        charge = turns.shares.charge

        def noted(user: str, cost_s: float, now_s: float) -> None:
            charged[user] += cost_s > 0
            charge(user, cost_s, now_s)

        turns.shares.charge = noted  # type: ignore[method-assign]
        await w.append(STREAM, "a")
        assert (await c.request(method, path, json=body)).is_success
        assert charged[ALICE.name] > 1, "for making the answer and for sending it"
        assert turns.shares.slowed == 0, "the only user never waits"
        turns.charge("user/9", 0.001)
        turns.charge(ALICE.name, 0.2)
        asked = asyncio.create_task(c.request(method, path, json=body))
        await until(lambda: turns.shares.slowed > 0)
        assert not asked.done()
        w.ambient.advance(10)
        assert (await asked).is_success


async def test_a_request_that_waited_is_refused_if_its_token_was_revoked_meanwhile() -> None:
    async with world() as w, http(w) as c:
        turns = w.server.turns
        turns.charge("user/9", 0.001)
        turns.charge(ALICE.name, 0.2)
        asked = asyncio.create_task(c.post("/commands/note", json={"text": "a"}))
        await until(lambda: turns.work.of(ALICE.name))
        await w.publisher.revoke(user_id=42)
        w.ambient.advance(10)
        refused = await asked
        assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")
        assert w.log.head(STREAM).seq == 0


async def test_a_service_that_stops_refuses_requests_that_wait_for_their_user_to_owe_less() -> None:
    async with world() as w, http(w) as c:
        turns = w.server.turns
        turns.charge("user/9", 0.001)
        turns.charge(ALICE.name, 2.0)
        asked = [asyncio.create_task(c.post("/commands/note", json={"text": "a"})) for _ in range(3)]
        await until(lambda: turns.work.of(ALICE.name) == len(asked))
        w.api.close()
        asked.append(asyncio.create_task(c.get("/who")))
        refused = [await one for one in asked]
        assert [one.status_code for one in refused] == [503] * len(asked)
        assert (refused[0].json()["code"], turns.work.of(ALICE.name)) == ("unavailable", 0)
        assert w.executed == 0


async def test_a_service_that_stops_refuses_requests_that_wait_for_a_turn_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world() as w, http(w) as c:
        rounds = w.server.turns.rounds
        rounds.room.append(lambda owner: owner != ALICE.name)
        monkeypatch.setattr(rounds, "may_begin", lambda owner: owner != ALICE.name)
        asked = [asyncio.create_task(c.post("/commands/note", json={"text": "a"})) for _ in range(3)]
        await until(lambda: rounds.waiting == len(asked))
        w.api.close()
        refused = [await one for one in asked]
        assert [one.status_code for one in refused] == [503] * len(asked)
        assert (rounds.waiting, w.executed) == (0, 0)


@pytest.mark.parametrize("stream", [STREAM, "system"])
async def test_a_state_over_http_is_made_in_slices_for_who_asks(stream: str) -> None:
    async with world() as w, http(w) as c:
        slices, slice_ = Counter[str](), w.server.turns.slice

        async def counted(user: str, work: Any) -> Any:
            slices[user] += 1
            return await slice_(user, work)

        w.server.turns.slice = counted  # type: ignore[method-assign]
        await w.append(stream, "a")
        answer = await c.get(f"/streams/{stream}?after=snapshot")
        assert answer.json()["outcome"] == "snapshot"
        assert set(slices) == {ALICE.name}
        assert slices[ALICE.name] >= 3, "found in its frame, joined with the page, hashed"


async def test_its_question_is_not_worked_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "HALF_CLOSED_S", 0.1)

    async with world() as w:
        w.hold = asyncio.Event()  # no command is answered until it is set
        up, down = await asyncio.open_connection("127.0.0.1", w.port)
        down.write(
            b"POST /commands/note HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
            + w.token(ALICE).encode()
            + b'\r\nContent-Length: 12\r\n\r\n{"text":"a"}'
        )
        await until(lambda: w.executed == 1)
        down.write_eof()
        said = b""
        with contextlib.suppress(ConnectionError):
            said = await asyncio.wait_for(up.read(), WITHIN_S)
        assert said == b""
        w.hold.set()
        down.close()
