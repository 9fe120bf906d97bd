"""Durable Streams on the real server: what its clients rely on, and what huahuo adds."""

import asyncio

import pytest

from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.model import Append, NewEvent
from huahuo.transport.client.client import Client
from huahuo.transport.durable_streams import serving
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.http import client
from tests.support.worlds.people import ALICE
from tests.support.worlds.wire import http, until, world

ADMIN = Principal(1, "root", is_admin=True)
CAROL = Principal(44, "carol")
BOB = Principal(43, "bob", groups=("ops",))
PATH = "/ds/user/42/answer"
TEXT = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}
SMALL = TransportSettings(unsent_bytes_max=3 << 20, unsent_bytes_per_user=3 << 20)
"""Room for three pages that are being read."""


def producer(seq: int, epoch: int = 0) -> dict[str, str]:
    return {"Producer-Id": "p", "Producer-Epoch": str(epoch), "Producer-Seq": str(seq)}


async def test_what_was_appended_is_read_from_any_offset() -> None:
    async with world() as w, http(w) as c:
        made = await c.put(PATH, headers=TEXT, content="Once ")
        assert (made.status_code, made.headers["content-type"]) == (201, "text/plain")
        more = await c.post(PATH, headers=TEXT, content="upon a time")
        assert more.status_code == 204
        whole = await c.get(PATH)
        assert (whole.text, whole.headers["stream-up-to-date"]) == ("Once upon a time", "true")
        rest = await c.get(PATH, params={"offset": made.headers["stream-next-offset"]})
        assert rest.text == "upon a time"
        assert rest.headers["stream-next-offset"] == more.headers["stream-next-offset"]
        same = await c.get(PATH, headers={"If-None-Match": whole.headers["etag"]})
        assert same.status_code == 304


async def test_each_message_of_json_is_an_event_of_the_log() -> None:
    async with world() as w, http(w) as c:
        await c.put(PATH, headers=JSON)
        await c.post(PATH, headers=JSON, content='[{"a": 1}, [2, 3]]')
        assert (await c.get(PATH)).text == '[{"a":1},[2,3]]'
        events = await w.log.read("ds/user/42/answer", 0, events_max=10)
        assert [event.type for event in events] == ["ds_created", "ds_message", "ds_message"]
        assert events[1].principal == "user/42"
        assert (await c.post(PATH, headers=JSON, content="[" * 50 + "]" * 50)).status_code == 400


async def test_a_reader_of_events_ends_soon_after_its_token_though_nothing_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "LOOK_S", 0.01)

    async with world() as w, http(w) as c, http(w, ADMIN) as admin:
        await c.put(PATH, headers=TEXT)
        async with c.stream("GET", PATH, params={"offset": "-1", "live": "sse"}) as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "event: control"
            await until(lambda: w.api.arrivals.waiting == 1)
            w.ambient.advance(1)
            assert (await admin.post("/commands/revoke", json={"user_id": 42})).status_code == 200
            assert "event: data" not in [line async for line in lines]
        await until(lambda: w.api.readers == 0)


async def test_a_long_poll_and_a_reader_of_events_get_what_comes() -> None:
    async with world() as w, http(w) as c:
        await c.put(PATH, headers=TEXT)
        live = {"offset": "now", "live": "long-poll"}
        waiting = asyncio.ensure_future(c.get(PATH, params=live))
        await until(lambda: w.api.arrivals.waiting == 1)
        async with c.stream("GET", PATH, params={"offset": "-1", "live": "sse"}) as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "event: control"
            await c.post(PATH, headers=TEXT | {"Stream-Closed": "true"}, content="a\nevent: control\n")
            assert (await waiting).text == "a\nevent: control\n"
            rest = [line async for line in lines]
            assert rest[2:7] == ["event: data", "data:a", "data:event: control", "data:", ""]
            assert '"streamClosed":true' in rest[8]
        await until(lambda: w.api.readers == 0)


async def test_requests_that_wait_take_no_room_from_answers() -> None:
    async with world(SMALL) as w, http(w) as c:
        await c.put(PATH, headers=TEXT, content="a")
        live = {"offset": "now", "live": "long-poll"}
        waiting = [asyncio.ensure_future(c.get(PATH, params=live)) for _ in range(5)]
        await until(lambda: w.api.arrivals.waiting == 5 or any(one.done() for one in waiting))
        assert w.server.wires.supply.budget.used == 0
        assert (await c.get(PATH)).text == "a"
        await c.post(PATH, headers=TEXT, content="b")
        assert [(await one).text for one in waiting] == ["b"] * 5


async def test_a_reader_of_events_that_does_not_read_holds_a_counted_and_bounded_part() -> None:
    async with world() as w, http(w) as c:
        await c.put(PATH, headers=TEXT)
        for _ in range(4):  # each end of a line takes six bytes of an answer
            assert (await c.post(PATH, headers=TEXT, content="\n" * (1 << 20))).status_code == 204
        budget = w.server.wires.supply.budget
        _, writer = await asyncio.open_connection("127.0.0.1", w.port, limit=1024)
        asked = f"GET {PATH}?offset=-1&live=sse HTTP/1.1\r\nHost: x\r\n"
        writer.write(f"{asked}Authorization: Bearer {w.token()}\r\n\r\n".encode())
        await until(lambda: budget.of(ALICE.name) > 256 << 10)
        assert budget.of(ALICE.name) < 1 << 20
        assert (await c.get("/who")).status_code == 200
        assert budget.of(ALICE.name) < 1 << 20
        writer.transport.abort()
        await until(lambda: budget.used == 0 and w.api.readers == 0)


@pytest.mark.parametrize("name", ["Producer-Id", "Stream-Seq", "Stream-Closed"])
async def test_an_append_that_says_a_header_twice_is_refused_and_not_made_as_if_it_said_none(
    name: str,
) -> None:
    async with world() as w, http(w) as c:
        await c.put(PATH, headers=TEXT, content="a")
        said = producer(0) if name == "Producer-Id" else {name: "true"}
        refused = await c.post(PATH, headers=[*TEXT.items(), *said.items(), *said.items()], content="b")
        assert (refused.status_code, (await c.get(PATH)).text) == (400, "a")


async def test_a_request_that_a_producer_repeats_adds_nothing() -> None:
    async with world() as w, http(w) as c:
        await c.put(PATH, headers=TEXT)
        assert (await c.post(PATH, headers=TEXT | producer(0), content="a")).status_code == 200
        again = await c.post(PATH, headers=TEXT | producer(0), content="a")
        assert (again.status_code, again.headers["producer-seq"]) == (204, "0")
        gap = await c.post(PATH, headers=TEXT | producer(2), content="c")
        assert (gap.status_code, gap.headers["producer-expected-seq"]) == (409, "1")
        assert (await c.post(PATH, headers=TEXT | producer(0, 1), content="b")).status_code == 200
        assert (await c.post(PATH, headers=TEXT | producer(1), content="x")).status_code == 403
        assert (await c.get(PATH)).text == "ab"


async def test_a_stream_lives_as_long_as_it_is_used() -> None:
    async with world() as w, http(w) as c:
        await c.put(PATH, headers=TEXT | {"Stream-TTL": "10"}, content="old")
        w.ambient.advance(9)
        assert (await c.head(PATH)).headers["stream-ttl"] == "1"
        assert (await c.get(PATH)).status_code == 200
        w.ambient.advance(9)
        assert (await c.get(PATH)).status_code == 200
        old = (await c.head(PATH)).headers["stream-next-offset"]
        w.ambient.advance(10)
        assert (await c.get(PATH)).status_code == 404
        assert (await c.put(PATH, headers=TEXT, content="new")).status_code == 201
        assert (await c.get(PATH)).text == "new"
        assert (await c.get(PATH, params={"offset": old})).status_code == 410


async def test_a_path_is_used_by_its_owner_its_group_and_administrators() -> None:
    async with (
        world() as w,
        http(w) as alice,
        http(w, BOB) as bob,
        http(w, CAROL) as carol,
        http(w, ADMIN) as admin,
    ):
        assert (await alice.put(PATH, headers=TEXT)).status_code == 201
        assert [(await one.get(PATH)).status_code for one in (bob, admin)] == [403, 200]
        assert (await bob.put("/ds/group/ops/log", headers=TEXT)).status_code == 201
        assert [(await one.get("/ds/group/ops/log")).status_code for one in (bob, carol)] == [200, 403]
        assert (await alice.put("/ds/anything", headers=TEXT)).status_code == 403
        assert (await admin.put("/ds/anything", headers=TEXT)).status_code == 201
        assert (await alice.put("/ds/user/42/../43", headers=TEXT)).status_code in (400, 403)
        async with client(f"http://127.0.0.1:{w.port}") as nobody:
            assert (await nobody.get(PATH)).status_code == 401


async def test_a_stream_of_the_service_is_read_as_json_from_any_offset() -> None:
    async with world() as w, http(w) as c:
        await w.append("user/42", "one", "two")
        whole = await c.get("/ds/user/42")
        assert [(event["seq"], event["text"]) for event in whole.json()] == [(1, "one"), (2, "two")]
        assert (whole.headers["content-type"], whole.headers["stream-up-to-date"]) == (
            "application/json",
            "true",
        )
        end = whole.headers["stream-next-offset"]
        assert (await c.head("/ds/user/42")).headers["stream-next-offset"] == end
        waiting = asyncio.ensure_future(c.get("/ds/user/42", params={"offset": end, "live": "long-poll"}))
        await until(lambda: w.api.arrivals.waiting == 1)
        await w.append("user/42", "three")
        assert [event["text"] for event in (await waiting).json()] == ["three"]


async def test_a_stream_of_the_service_is_not_written_and_not_read_by_others() -> None:
    async with world() as w, http(w) as alice, http(w, BOB) as bob:
        refused = await alice.put("/ds/user/42", headers=JSON)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        assert (await alice.post("/ds/user/42", headers=JSON, content="[1]")).status_code == 405
        assert (await alice.delete("/ds/user/42")).status_code == 405
        assert [(await one.get("/ds/user/42")).status_code for one in (alice, bob)] == [200, 403]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5_000, "9" * 310])
async def test_a_number_that_no_double_holds_is_refused_and_one_in_the_log_blocks_no_reader(
    number: str,
) -> None:
    async with world() as w, http(w) as c:
        told = await c.put(PATH, headers=JSON, content=f'[{{"a":{number}}}]')
        assert (told.status_code, "out of range" in told.text) == (400, True)
        await c.put(PATH, headers=JSON, content='[{"a":"1e999","b":1e308,"c":123456789012345678901}]')
        assert (await c.post(PATH, headers=JSON, content=f"[[1,{number}]]")).status_code == 400
        body = f'{{"type":"ds_message","timestamp":"2026-01-01T00:00:00.000Z","data":{number}}}'.encode()
        stream = PATH.removeprefix("/")
        await w.log.append(Append(ts_ms=0, events=(NewEvent(stream, "ds_message", body),)))
        await w.log.append(
            Append(ts_ms=0, events=(NewEvent(stream, "ds_message", b'{"type":"ds_message","data":"end"}'),))
        )
        async with Client(w.url, token=w.token(ADMIN)) as root, root.events("log", "start") as events:
            async for event in events:
                if event.data.get("data") == "end":
                    break
