"""Commands, publishing, acks and routes of plug-ins over HTTP, on the real server.

And requests that are no good.
"""

import asyncio
import gzip
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from huahuo.actors.entities.decider import Busy, Degraded
from huahuo.actors.plugins.actions import HttpAnswer, HttpRefused, HttpRequest, HttpRoute
from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.errors import CommandMismatch, Corrupt
from huahuo.transport.http.messages import status_of
from huahuo.transport.load.intake import weight
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.patience import WITHIN_S
from tests.support.worlds.people import ALICE
from tests.support.worlds.wire import World, http, until, world

STREAM = "user/42"
ADMIN = Principal(1, "root", is_admin=True)


async def test_a_command_sent_twice_with_one_key_takes_effect_once() -> None:
    async with world() as w, http(w) as c:
        first = await c.post("/commands/note", json={"text": "a"}, headers={"Idempotency-Key": "k1"})
        again = await c.post("/commands/note", json={"text": "a"}, headers={"Idempotency-Key": '"k1"'})
        assert first.json() == {
            "type": "success", "message": "ok", "n": 1, "id": "k1",
            "at": {"stream": STREAM, "seq": 1, "position": 1},
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
        assert answer.json()["at"] == {"stream": STREAM, "seq": 1, "position": 1}
        assert (await c.post("/publish", json=one, headers={"Idempotency-Key": "p1"})).json()["duplicate"]
        many = await c.post("/publish", json=[one, {**one, "stream": "group/ops"}])
        assert many.json()["at"] == {"stream": "group/ops", "seq": 1, "position": 3}
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


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/commands/note", "POST, OPTIONS"),
        ("GET", "/login", "POST, OPTIONS"),
        ("PATCH", "/streams/user/42", "GET, HEAD, OPTIONS"),
        ("POST", "/streams/user/42", "GET, HEAD, OPTIONS"),
        ("DELETE", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(
    method: str, path: str, allowed: str
) -> None:
    async with world() as w, http(w) as c:
        answer = await c.request(method, path, headers={"Accept-Language": "en"})
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert answer.json()["detail"] == f"this path takes {allowed} only"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["allow"] == allowed


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


async def test_a_body_that_does_not_come_holds_nothing() -> None:
    async with world() as w:
        _, down = await asyncio.open_connection("127.0.0.1", w.port)
        head = f"POST /publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token(ADMIN)}\r\n"
        down.write(head.encode() + b"Content-Length: 900000\r\n\r\n{")
        await until(lambda: w.server.intake.used)
        assert w.server.intake.of("user/1") == weight(900_000), "before any of it was read"
        down.close()
        await until(lambda: not w.server.intake.used)


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


WITH_KEY = Principal(7, "script")
STATES: dict[str, Exception] = {
    "busy": Busy("roster/1 has too much to do"),
    "unavailable": Degraded("roster/1 failed too often"),
    "corrupt": Corrupt("user/1", "its chain"),
    "invalid_field": CommandMismatch("command k was used with another content"),
}
"""What a handler may meet that is no fault of its own, by the code that says so."""


class Parcels:
    """A plug-in's routes, and what their handlers saw."""

    def __init__(self) -> None:
        self.seen: list[HttpRequest] = []
        self.hold = asyncio.Event()
        self.finished = 0
        self.cancelled = 0

    def routes(self) -> list[HttpRoute]:
        return [
            HttpRoute(method="GET", path="/parcels/{number:int}", handler=self.show),
            HttpRoute(method="GET", path="/parcels/{name}/label", handler=self.show),
            HttpRoute(method="POST", path="/parcels", handler=self.note, body_bytes_max=100),
            HttpRoute(method="DELETE", path="/parcels/{number:int}", handler=self.show, access="admin"),
            HttpRoute(method="GET", path="/parcels/open", handler=self.show, access="anyone"),
            HttpRoute(method="GET", path="/parcels/next", handler=self.wait, waits=True),
            HttpRoute(method="GET", path="/parcels/slow", handler=self.wait),
            HttpRoute(method="GET", path="/parcels/keyed", handler=self.show, who=self.key),
            HttpRoute(method="GET", path="/other", handler=self.show, access="admin", refuse=other_words),
        ]

    async def show(self, request: HttpRequest) -> HttpAnswer:
        self.seen.append(request)
        if request.query.get("fail") == "refused":
            raise HttpRefused("parcel_lost", "nobody has it", retry_s=3, status=503)
        if request.query.get("fail") == "fault":
            raise RuntimeError("canary-in-exception")
        if request.query.get("fail") == "time":
            raise TimeoutError("the parcel service has not answered")
        if request.query.get("fail") in STATES:
            raise STATES[request.query["fail"]]
        name = None if request.principal is None else request.principal.username
        return HttpAnswer.json({"names": request.names, "who": name})

    async def note(self, request: HttpRequest) -> HttpAnswer:
        fields = request.json(dict[str, Any])
        reply = await request.call("note", fields, command_id=request.headers.get("idempotency-key"))
        if reply["type"] == "error":
            raise HttpRefused.of(reply)
        return HttpAnswer.json(reply, status=201)

    async def wait(self, request: HttpRequest) -> HttpAnswer:
        self.seen.append(request)
        try:
            await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.finished += 1
        return HttpAnswer(b"%.1f" % request.wait_s(), content_type="text/plain", headers=(("X-Own", "1"),))

    def key(self, request: HttpRequest) -> Principal | None:
        return WITH_KEY if request.headers.get("x-key") == "right" else None


def other_words(problem: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"error": problem["code"]}


async def test_a_handler_gets_the_parts_of_its_path_and_the_user_of_the_token() -> None:
    plugin = Parcels()
    async with world(routes=plugin.routes()) as w, http(w) as c:
        answer = await c.get("/parcels/7?x=1", headers={"X-Thing": "a"})
        assert answer.json() == {"names": {"number": "7"}, "who": "alice"}
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert plugin.seen[0].query == {"x": "1"}
        assert plugin.seen[0].headers["x-thing"] == "a"
        named = await c.get("/parcels/a%40b.example/label")
        assert named.json()["names"] == {"name": "a@b.example"}
        assert (await c.head("/parcels/7")).content == b""
        for path in ("/parcels/seven", "/parcels/7/", "/parcels/7/more"):
            missing = await c.get(path)
            assert path == "/parcels/7/" or missing.status_code == 404, path  # some servers drop a slash


async def test_without_a_right_token_no_handler_runs() -> None:
    plugin = Parcels()
    async with world(routes=plugin.routes()) as w, http(w, None) as nobody, http(w) as c:
        refused = await nobody.get("/parcels/7")
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
        assert (await c.delete("/parcels/7")).status_code == 403
        assert (await nobody.delete("/parcels/7")).status_code == 401
        assert not plugin.seen
        async with http(w, ADMIN) as root:
            assert (await root.delete("/parcels/7")).status_code == 200


async def test_a_route_for_anyone_still_says_who_has_a_token() -> None:
    plugin = Parcels()
    async with world(routes=plugin.routes()) as w, http(w, None) as nobody, http(w) as c:
        assert (await nobody.get("/parcels/open")).json()["who"] is None
        assert (await c.get("/parcels/open")).json()["who"] == "alice"
        stale = await nobody.get("/parcels/open", headers={"Authorization": "Bearer stale"})
        assert stale.json()["who"] is None


async def test_a_route_may_know_its_clients_itself() -> None:
    plugin = Parcels()
    async with world(routes=plugin.routes()) as w, http(w, None) as nobody:
        assert (await nobody.get("/parcels/keyed", headers={"X-Key": "right"})).json()["who"] == "script"
        assert (await nobody.get("/parcels/keyed", headers={"X-Key": "wrong"})).status_code == 401


async def test_a_handler_calls_actions_as_its_user_once_per_command_id() -> None:
    async with world(routes=Parcels().routes()) as w, http(w) as c:
        first = await c.post("/parcels", json={"text": "a"}, headers={"Idempotency-Key": "k"})
        assert (first.status_code, first.json()["at"]) == (
            201,
            {"stream": "user/42", "seq": 1, "position": 1},
        )
        again = await c.post("/parcels", json={"text": "a"}, headers={"Idempotency-Key": "k"})
        assert again.json()["duplicate"]
        assert w.log.head("user/42").seq == 1
        refused = await c.post("/parcels", json={"text": "refuse"})
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
        invalid = await c.post("/parcels", json={"text": 1})
        assert (invalid.status_code, invalid.json()["code"]) == (400, "invalid_field")


async def test_bodies_are_bounded_by_the_route() -> None:
    async with world(routes=Parcels().routes()) as w, http(w) as c:
        for content in (b'"' + b"a" * 200 + b'"',):
            large = await c.post("/parcels", content=content)
            assert (large.status_code, large.json()["code"]) == (413, "too_large")
        assert (await c.post("/parcels", content=b"{no json")).json()["code"] == "bad_message"
        assert (await c.post("/parcels", content=b"[1]")).json()["code"] == "invalid_field"
        coded = await c.post("/parcels", content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
        assert (coded.status_code, "compressed" in coded.json()["detail"]) == (415, True)


async def test_refusals_and_faults_of_a_handler_are_problems() -> None:
    async with world(routes=Parcels().routes()) as w, http(w) as c:
        refused = await c.get("/parcels/7?fail=refused")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "3")
        assert (refused.json()["code"], refused.json()["detail"]) == ("parcel_lost", "nobody has it")
        fault = await c.get("/parcels/7?fail=fault")
        assert fault.status_code == 500
        assert "canary" not in fault.text


@pytest.mark.parametrize("code", STATES)
async def test_a_state_that_a_handler_meets_is_refused_as_for_a_command_and_not_logged_as_a_fault(
    code: str,
) -> None:
    async with world(routes=Parcels().routes()) as w, http(w) as c:
        with capture_logs() as logged:
            refused = await c.get(f"/parcels/7?fail={code}")
        assert (refused.status_code, refused.json()["code"]) == (status_of(code), code)
        assert ("retry-after" in refused.headers) == (refused.status_code == 503)
        assert not [one for one in logged if one["event"] == "request_failed"]


async def test_an_id_that_was_used_with_other_content_is_refused_in_the_same_words_on_every_way() -> None:
    said = "this id was used for another command (id: used before with another content)"

    async with world(routes=Parcels().routes()) as w, http(w) as c:
        headers = {"Idempotency-Key": "k", "Accept-Language": "en"}
        ways = (("/parcels", "a"), ("/parcels", "b"), ("/commands/note", "b"))
        first, of_route, of_command = [
            await c.post(path, json={"text": text}, headers=headers) for path, text in ways
        ]
        raised = await c.get("/parcels/7?fail=invalid_field", headers=headers)
        assert first.status_code == 201
        for refused in (of_route, of_command, raised):
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid_field")
            assert refused.json()["detail"] == said


async def test_a_route_has_refusals_in_its_own_words() -> None:
    async with world(routes=Parcels().routes()) as w, http(w) as c, http(w, None) as nobody:
        for who, status, code in ((c, 403, "forbidden"), (nobody, 401, "unauthenticated")):
            refused = await who.get("/other")
            assert (refused.status_code, refused.json()) == (status, {"error": code})
            assert refused.headers["content-type"] == "application/json"


async def test_pages_of_named_origins_may_ask_plug_ins() -> None:
    settings = TransportSettings(origins=("https://app.example",))
    async with world(settings, routes=Parcels().routes()) as w, http(w) as c:
        asked = await c.options("/parcels/7", headers={"Origin": "https://app.example"})
        assert asked.headers["access-control-allow-methods"] == "GET, DELETE, HEAD, OPTIONS"
        got = await c.get("/parcels/7", headers={"Origin": "https://app.example"})
        assert got.headers["access-control-allow-origin"] == "https://app.example"
        assert (await c.get("/parcels/7", headers={"Origin": "https://no.example"})).status_code == 403


async def test_a_handler_that_waits_ends_with_its_client_and_with_the_service() -> None:
    plugin = Parcels()
    async with world(routes=plugin.routes()) as w, http(w) as c:
        leaves = asyncio.create_task(c.get("/parcels/next?wait=30"))
        await until(lambda: plugin.seen)
        leaves.cancel()
        await until(lambda: plugin.cancelled == 1)
        stays = asyncio.create_task(c.get("/parcels/next?wait=30"))
        await until(lambda: len(plugin.seen) == 2)
        w.api.close()
        assert (await stays).status_code == 503
        plugin.hold.set()
        done = await c.get("/parcels/next?wait=2.5")
        assert (done.text, done.headers["x-own"]) == ("2.5", "1")
        assert (await c.get("/parcels/next?wait=61")).json()["code"] == "invalid_field"


async def test_a_handler_that_does_not_wait_is_done_whole_if_its_client_leaves() -> None:
    plugin = Parcels()
    async with world(routes=plugin.routes()) as w, http(w) as c:
        leaves = asyncio.create_task(c.get("/parcels/slow"))
        await until(lambda: plugin.seen)
        leaves.cancel()
        await asyncio.wait({leaves})
        plugin.hold.set()
        await until(lambda: plugin.finished == 1)
        assert plugin.cancelled == 0


async def test_what_a_handler_does_is_charged_to_who_asks_and_goes_on_when_that_is_paid() -> None:
    steps = 0
    async with world(routes=[HttpRoute(method="GET", path="/long", handler=lambda _: work())]) as w:
        turns, charged = w.server.turns, defaultdict[str, float](float)

        async def work() -> HttpAnswer:
            nonlocal steps
            for _ in range(3):
                steps += 1
                w.ambient.advance(0.1)  # as if the loop had been held for so long
                await asyncio.sleep(0)
            return HttpAnswer(b"done")

        def noted(user: str, spent_s: float, now_s: float | None = None) -> None:
            charged[user] += spent_s
            charge(user, spent_s, now_s)

        charge, turns.charge = turns.charge, noted  # type: ignore[method-assign]
        async with http(w) as c:
            charge("user/9", 0.001)
            asked = asyncio.create_task(c.get("/long"))
            await until(lambda: charged[ALICE.name] >= 0.1)
            assert steps == 1
            w.ambient.advance(100)
            assert (await asked).content == b"done"
        assert charged[ALICE.name] >= 0.29
