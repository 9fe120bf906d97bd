"""Commands, publishing and acks over HTTP, on the real server; and requests that are no good."""

import asyncio
import gzip

import pytest
import uvloop

from huahuo.actors.plugins.calls import Principal
from huahuo.transport.load.intake import weight
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.patience import WITHIN_S
from tests.support.worlds.people import ALICE
from tests.support.worlds.services import run
from tests.support.worlds.wire import World, http, until, world

STREAM = "user/42"
ADMIN = Principal(1, "root", is_admin=True)


async def test_a_command_sent_twice_with_one_key_takes_effect_once() -> None:
    async with world() as w, http(w) as c:
        first = await c.post("/commands/note", json={"text": "a"}, headers={"Idempotency-Key": "k1"})
        again = await c.post("/commands/note", json={"text": "a"}, headers={"Idempotency-Key": '"k1"'})
        assert first.json() == {
            "type": "success", "message": "ok", "n": 1, "id": "k1", "at": {"stream": STREAM, "seq": 1}
        }  # fmt: skip
        assert again.json() == first.json() | {"duplicate": True}
        other = await c.post("/commands/note", json={"text": "b", "id": "k1"})
        assert (other.status_code, other.json()["code"]) == (400, "invalid_field")
        assert w.log.head(STREAM).seq == 1


async def test_a_command_with_two_keys_is_refused_since_a_repeat_would_be_carried_out_again() -> None:
    async with world() as w, http(w) as c:
        keys = [("Idempotency-Key", "k1"), ("Idempotency-Key", "k2")]
        refused = await c.post("/commands/note", json={"text": "a"}, headers=keys)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_field")
        assert w.log.head(STREAM).seq == 0


async def test_a_command_of_two_clients_is_refused_since_its_key_counts_for_one() -> None:
    async with world() as w, http(w) as c:
        said = [("Idempotency-Key", "k1"), ("Huahuo-Client", "a"), ("Huahuo-Client", "b")]
        refused = await c.post("/commands/note", json={"text": "a"}, headers=said)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_field")
        assert w.log.head(STREAM).seq == 0


async def test_a_page_behind_two_last_event_ids_is_refused() -> None:
    async with world() as w, http(w) as c:
        for accept in ("application/json", "text/event-stream"):
            places = [("Last-Event-ID", "1"), ("Last-Event-ID", "2"), ("Accept", accept)]
            refused = await c.get(f"/streams/{STREAM}", headers=places)
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid_field")


async def test_a_refusal_and_a_fault_are_problems() -> None:
    async with world() as w, http(w) as c:
        refused = await c.post("/commands/note", json={"text": "refuse", "id": "r"})
        assert (refused.status_code, refused.json()["code"], refused.json()["id"]) == (
            404,
            "not_found",
            "r",
        )
        crash = await c.post("/commands/note", json={"text": "crash"})
        assert crash.status_code == 500
        assert "canary" not in crash.text
        assert (await c.post("/commands/nothing", json={})).json()["code"] == "unknown_action"
        assert (await c.post("/commands/note", json={"text": 1})).json()["code"] == "invalid_field"
        assert (await c.post("/commands/note", content=b"{not json")).json()["code"] == "bad_message"
        assert (await c.post("/commands/note", content=b"[]")).json()["code"] == "bad_message"


@pytest.mark.parametrize("path", ["/commands/note", "/publish", "/acks", "/ticket", "/login"])
async def test_a_get_where_a_post_is_needed_names_the_method(path: str) -> None:
    async with world() as w, http(w) as c:
        answer = await c.get(path, headers={"Accept-Language": "en"})
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert answer.json()["detail"] == "this path takes POST, OPTIONS only"
        assert answer.headers["allow"] == "POST, OPTIONS"


async def test_a_query_is_answered() -> None:
    async with world() as w, http(w) as c:
        answer = await c.post("/commands/echo", json={"text": "a", "count": 3})
        assert answer.json() == {"type": "echo", "text": "aaa"}


async def test_a_command_goes_on_if_its_client_leaves() -> None:
    async with world() as w, http(w) as c:
        w.hold = asyncio.Event()
        sent = asyncio.create_task(c.post("/commands/note", json={"text": "a", "id": "k"}))
        await until(lambda: w.executed)
        sent.cancel()
        w.hold.set()
        again = await c.post("/commands/note", json={"text": "a", "id": "k"})
        assert again.json()["duplicate"]
        assert w.log.head(STREAM).seq == 1


async def test_administrators_publish_one_event_or_many_in_one_commit() -> None:
    async with world() as w, http(w, ADMIN) as c:
        one = {"stream": STREAM, "type": "parcel_seen", "fields": {"order_id": 7}}
        answer = await c.post("/publish", json=one, headers={"Idempotency-Key": "p1"})
        assert answer.json()["at"] == {"stream": STREAM, "seq": 1}
        assert (await c.post("/publish", json=one, headers={"Idempotency-Key": "p1"})).json()["duplicate"]
        many = await c.post("/publish", json=[one, {**one, "stream": "group/ops"}])
        assert many.json()["at"] == {"stream": "group/ops", "seq": 1}
        page = await c.get(f"/streams/{STREAM}")
        assert [event["order_id"] for event in page.json()["events"]] == [7, 7]
        position = w.log.position
        mixed = await c.post("/publish", json=[one, {**one, "stream": "auth"}])
        assert (mixed.status_code, w.log.position) == (400, position)


async def test_what_is_no_event_is_refused_with_a_reason() -> None:
    async with world() as w, http(w, ADMIN) as c, http(w) as alice:
        one = {"stream": STREAM, "type": "seen", "fields": {}}
        assert (await alice.post("/publish", json=one)).status_code == 403
        flat = await c.post("/publish", json={"stream": STREAM, "type": "seen", "order_id": 7})
        assert flat.status_code == 400
        assert "order_id" in flat.json()["detail"]
        assert (await c.post("/publish", json=[])).status_code == 400
        assert (await c.post("/publish", json=[one] * 1001)).status_code == 400
        assert (await c.post("/publish", content=b'[],"x":1')).status_code == 400
        assert w.log.position == 0


async def test_acks_over_http_are_seen() -> None:
    async with world() as w, http(w) as c, http(w, ADMIN) as admin, http(w, Principal(7, "bob")) as bob:
        await w.append(STREAM, "a", "b")
        asked: dict[str, str | int] = {"stream": STREAM, "seq": 2, "client": "dev-7"}
        assert not (await admin.get("/seen", params=asked)).json()["seen"]
        waiting = asyncio.create_task(admin.get("/seen", params={**asked, "wait": 30}))
        done = await c.post("/acks", json={"cursors": {STREAM: 2}, "client": "dev-7"})
        assert done.status_code == 204
        assert (await waiting).json()["seen"]
        assert (await c.get("/seen", params=asked)).json()["seen"]
        assert (await bob.get("/seen", params=asked)).status_code == 403


async def test_an_ack_beyond_the_head_or_of_a_foreign_stream_counts_nothing() -> None:
    async with world() as w, http(w) as c:
        await w.append(STREAM, "a")
        beyond = await c.post("/acks", json={"cursors": {"system": 0, STREAM: 2}, "client": "d"})
        assert (beyond.status_code, beyond.json()["code"]) == (400, "bad_ack")
        foreign = await c.post("/acks", json={"cursors": {STREAM: 1, "user/43": 1}, "client": "d"})
        assert foreign.status_code == 403
        assert (await c.post("/acks", json={"cursors": {STREAM: 1}})).status_code == 400
        seen = await c.get("/seen", params={"stream": STREAM, "seq": 1, "client": "d"})
        assert not seen.json()["seen"]


async def say(w: World, data: bytes) -> tuple[int, bytes]:
    """Send raw bytes; the status and all that came until the server closed."""
    up, down = await asyncio.open_connection("127.0.0.1", w.port)
    try:
        down.write(data)
        down.write_eof()
        said = await asyncio.wait_for(up.read(), WITHIN_S)
        return int(said.split(b" ", 2)[1]) if said else 0, said
    finally:
        down.close()


@pytest.mark.parametrize("count", [1, 2])
async def test_a_client_that_ends_its_side_gets_its_answers_and_then_the_end(count: int) -> None:
    async with world() as w:
        body = b'{"text":"a"}'
        head = (
            f"POST /commands/note HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token(ALICE)}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        _, said = await say(w, (head.encode() + body) * count)
        assert said.count(b"HTTP/1.1 200") == count


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /publish HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"POST /publish HTTP/1.1\r\n\r\n", 400),
        (b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST /%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused(data: bytes, status: int) -> None:
    is_refused(data, status)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST /publish HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 600_000 + b"\r\n\r\n", 431),
    ],
)
def test_a_body_in_a_form_that_is_not_read_and_a_head_without_end_are_refused(
    data: bytes, status: int
) -> None:
    is_refused(data, status)


def is_refused(data: bytes, status: int) -> None:
    async def main() -> None:
        async with world() as w:
            assert (await say(w, data))[0] == status

    run(main())


async def test_the_body_of_a_stranger_is_not_read() -> None:
    async with world() as w:
        up, down = await asyncio.open_connection("127.0.0.1", w.port)
        down.write(b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n")
        assert (await up.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401")
        down.close()


async def test_a_body_beyond_the_bound_is_refused_before_it_comes() -> None:
    async with world(TransportSettings(message_bytes_max=1024)) as w, http(w, ADMIN) as c:
        assert (await c.post("/publish", content=b"x" * 2000)).status_code == 413
        up, down = await asyncio.open_connection("127.0.0.1", w.port)
        head = f"POST /publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token(ADMIN)}\r\n"
        down.write(head.encode() + b"Expect: 100-continue\r\nContent-Length: 2000\r\n\r\n")
        assert (await up.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413")
        down.close()


@pytest.mark.parametrize("path", ["/publish", "/commands/note", "/acks"])
async def test_a_compressed_body_is_refused_as_such(path: str) -> None:
    async with world() as w, http(w, ADMIN) as c:
        packed = {"content": gzip.compress(b'{"text":"a"}'), "headers": {"Content-Encoding": "gzip"}}
        refused = await c.post(path, **packed)  # type: ignore[arg-type]
        assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "identity")
        assert "Content-Encoding" in refused.json()["detail"]
        plain = {"content": b'{"text":"a"}', "headers": {"Content-Encoding": "identity"}}
        assert (await c.post("/commands/note", **plain)).status_code == 200  # type: ignore[arg-type]


async def test_a_client_that_waits_for_a_go_gets_one() -> None:
    async with world() as w:
        up, down = await asyncio.open_connection("127.0.0.1", w.port)
        head = f"POST /commands/note HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token()}\r\n"
        down.write(head.encode() + b"Expect: 100-continue\r\nContent-Length: 12\r\n\r\n")
        assert (await up.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        down.write(b'{"text":"a"}')
        assert (await up.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        down.close()


async def test_requests_on_one_connection_are_answered_in_order() -> None:
    async with world() as w:
        head = f"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token()}\r\n"
        one = f"GET /streams/system?after=0 {head}\r\n"
        two = f'POST /commands/note {head}Content-Length: 12\r\n\r\n{{"text":"a"}}'
        last = f"GET /streams/{STREAM} {head}Connection: close\r\n\r\n"
        _, said = await say(w, (one + two + last).encode())
        assert said.startswith(b"HTTP/1.1 200")
        assert said.count(b"HTTP/1.1 200") == 3
        assert said.index(b'"stream":"system"') < said.index(b'"type":"success"') < said.index(b'"noted"')


async def test_a_request_that_comes_byte_by_byte_is_answered() -> None:
    async with world() as w:
        up, down = await asyncio.open_connection("127.0.0.1", w.port)
        for byte in f"GET /streams/system HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token()}\r\n\r\n":
            down.write(byte.encode())
            await down.drain()
            await asyncio.sleep(0)
        assert (await up.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        down.close()


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_a_method_that_a_stream_does_not_take_is_a_problem(method: str) -> None:
    async with world() as w, http(w) as c:
        answer = await c.request(method, f"/streams/{STREAM}")
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        assert (await c.request(method, "/healthz")).status_code == 405


async def test_a_body_with_two_ends_is_refused_and_ends_its_connection() -> None:
    async with world() as w:
        up, down = await asyncio.open_connection("127.0.0.1", w.port)
        head = f"POST /publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token(ADMIN)}\r\n"
        both = b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
        down.write(head.encode() + both + b"GET /streams/system HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(WITHIN_S):
            said = await up.read()
        assert said.startswith(b"HTTP/1.1 400")
        assert said.count(b"HTTP/1.1") == 1, "what a proxy may take for a body is no next request"
        down.close()


async def test_the_site_is_on_the_same_connection() -> None:
    async with world() as w, http(w) as c:
        assert (await c.get("/streams/system")).status_code == 200
        assert (await c.get("/healthz")).text == "ok\n"
        assert (await c.post("/healthz")).status_code == 405


async def test_a_body_that_does_not_come_holds_nothing() -> None:
    async with world() as w:
        _, down = await asyncio.open_connection("127.0.0.1", w.port)
        head = f"POST /publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token(ADMIN)}\r\n"
        down.write(head.encode() + b"Content-Length: 900000\r\n\r\n{")
        await until(lambda: w.server.intake.used)
        assert w.server.intake.of("user/1") == weight(900_000), "before any of it was read"
        down.close()
        await until(lambda: not w.server.intake.used)


@pytest.mark.loop(factory=uvloop.new_event_loop)
async def test_an_ack_that_is_not_written_yet_is_seen_without_waiting() -> None:
    async with world() as w, http(w) as c:
        await w.append(STREAM, "a")
        await c.post("/acks", json={"cursors": {STREAM: 1}, "client": "d"})
        seen = await c.get("/seen", params={"stream": STREAM, "seq": 1, "client": "d"})
        assert seen.json()["seen"]


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (f"/streams/{STREAM}?type=said", "after, limit, wait, ticket"),
        ("/seen?stream=a&seq=1&client=c&x", "stream, seq, client, wait"),
        ("/who?user=7", "-"),
    ],
)
async def test_a_parameter_that_a_route_does_not_have_is_refused_with_those_that_it_has(
    path: str, known: str
) -> None:
    async with world() as w, http(w, ADMIN) as c:
        answer = await c.get(path)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_field")
        assert answer.json()["detail"].endswith(f"there are: {known}")
