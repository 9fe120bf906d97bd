"""Streams over HTTP on the real server, as pages and as server-sent events: places, rights, waiting, ends."""

import asyncio
from contextlib import AsyncExitStack

import httpx
from structlog.testing import capture_logs

from huahuo.actors.entities.decider import Busy
from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.errors import Unavailable
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.problem import PROBLEM
from tests.support.drivers.http import client, reader
from tests.support.worlds.wire import http, until, world

STREAM = "user/42"


async def test_a_reader_gets_each_event_with_its_cursor() -> None:
    async with world() as w, http(w) as c:
        await w.append(STREAM, "a", "b")
        async with reader(c, STREAM, after=0) as events:
            assert events.answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert events.answer.headers["x-accel-buffering"] == "no"
            assert events.answer.headers["huahuo-heartbeat"] == "30"
            assert await events.texts(2) == ["a", "b"]
            await events.until("live", seq=2)
            await w.append(STREAM, "c")
            event = await events.until("message")
            assert event.id == f"{w.log.log_id}:3"
            assert (event.data["type"], event.data["stream"], event.data["seq"]) == ("noted", STREAM, 3)
            assert [said.retry for said in events.seen if said.retry] == [2000]


async def test_a_reader_that_comes_back_goes_on_behind_its_last_event() -> None:
    async with world() as w, http(w) as c:
        await w.append(STREAM, "a", "b", "c")
        async with reader(c, STREAM, after=0) as events:
            await events.texts(2)
            last = events.seen[-1].id
        assert last is not None
        async with reader(c, STREAM, last, after=0) as events:
            assert await events.texts(1) == ["c"]


async def test_a_new_reader_knows_its_place_before_the_first_event() -> None:
    async with world() as w, http(w) as c:
        await w.append(STREAM, "a")
        async with reader(c, STREAM) as events:
            await events.until("live")
            assert [said.id for said in events.seen if said.id] == [f"{w.log.log_id}:1"]


async def test_a_cursor_that_cannot_be_kept_is_answered_with_a_state() -> None:
    async with world() as w, http(w) as c:
        await w.append(STREAM, "a")
        async with reader(c, STREAM, "gone:7") as events:
            said = await events.until("reset")
            assert said.id == f"{w.log.log_id}:1"
            assert (said.data["type"], said.data["outcome"]) == ("snapshot", "reset")
            assert (said.data["seq"], said.data["state"]) == (1, {"emails": []})
            await w.append(STREAM, "b")
            assert await events.texts(1) == ["b"]


async def test_the_state_comes_first_if_it_is_asked_for() -> None:
    async with world() as w, http(w) as c:
        await w.append(STREAM, "a")
        async with reader(c, STREAM, after="snapshot") as events:
            assert (await events.until("snapshot")).data["outcome"] == "snapshot"


async def test_an_event_is_framed_once_for_all_readers() -> None:
    async with world() as w, AsyncExitStack() as stack:
        c = await stack.enter_async_context(http(w))
        all_events = [await stack.enter_async_context(reader(c, STREAM)) for _ in range(12)]
        for events in all_events:
            await events.until("live")
        built = w.server.frames.built
        await w.append(STREAM, "for all")
        for events in all_events:
            assert await events.texts(1) == ["for all"]
        assert w.server.frames.built == built + 1


async def test_a_ticket_signs_in_once() -> None:
    async with world() as w, http(w) as c:
        answer = await c.post("/ticket")
        assert (answer.status_code, answer.json()["expires_in_s"]) == (201, 30)
        ticket = answer.json()["ticket"]
        async with client(f"http://127.0.0.1:{w.port}") as stranger:
            async with reader(stranger, STREAM, ticket=ticket) as events:
                await events.until("live")
            async with reader(stranger, STREAM, ticket=ticket) as events:
                assert events.answer.status_code == 401
            assert (await stranger.post("/publish?ticket=" + ticket)).status_code == 400


async def test_a_stream_of_somebody_else_is_refused_before_the_answer_begins() -> None:
    async with world() as w, http(w) as c:
        async with reader(c, "user/43") as events:
            assert events.answer.status_code == 403
            assert events.answer.headers["content-type"] == "application/problem+json"
        await until(lambda: not w.hub.joined_count)
        assert w.door.address_count == 0


async def test_an_idle_reader_gets_heartbeats_and_is_not_taken_for_silent() -> None:
    async with world() as w, http(w) as c, reader(c, STREAM) as events:
        await events.until("live")
        for _ in range(4):
            w.tick(31)
        await w.append(STREAM, "still here")
        assert await events.texts(1) == ["still here"]
        assert events.comments == 4


async def test_the_end_of_a_token_ends_its_reader_and_says_so() -> None:
    async with world() as w, http(w, ttl_s=90) as c, reader(c, STREAM) as events:
        await events.until("live")
        w.tick(60)
        await events.until("token_expiring")
        w.tick(60)
        assert (await events.until("goaway")).data["code"] == CloseCode.TOKEN_EXPIRED
        assert await events.next() is None
        await until(lambda: not w.api.readers)


async def test_a_revoked_user_loses_its_readers() -> None:
    async with world() as w, http(w) as c, reader(c, STREAM) as events:
        await events.until("live")
        await w.publisher.revoke(user_id=42)
        assert (await events.until("goaway")).data["code"] == CloseCode.REVOKED
        assert await events.next() is None


async def test_a_drain_sends_readers_away_in_time() -> None:
    async with world() as w, http(w) as c, reader(c, STREAM) as events:
        await events.until("live")
        draining = asyncio.create_task(w.server.drain(5))
        said = await events.until("goaway")
        assert said.data["code"] == CloseCode.RESTART or said.data["code"] == CloseCode.DRAINING
        assert any(one.retry == 1000 for one in events.seen)
        assert await events.next() is None
        await draining


async def test_readers_count_as_connections_of_their_user_and_address() -> None:
    async with world(connections_per_user=1) as w, http(w) as c, reader(c, STREAM) as events:
        await events.until("live")
        async with reader(c, STREAM) as second:
            assert second.answer.status_code == 429
            assert second.answer.headers["retry-after"] == "30"
    async with world(door=AddressDoor(1)) as w, http(w) as c, reader(c, STREAM) as events:
        await events.until("live")
        async with reader(c, STREAM) as second:
            assert second.answer.status_code == 429
        assert w.door.connection_count("127.0.0.1") == 1


async def test_a_reader_that_leaves_leaves_nothing_behind() -> None:
    async with world() as w, http(w) as c:
        async with reader(c, STREAM) as events:
            await events.until("live")
            assert (w.api.readers, w.hub.joined_count, w.server.fanout.stream_count) == (1, 1, 1)
        await until(lambda: not w.api.readers)
        await until(lambda: not w.hub.open_count)
        assert (w.server.fanout.stream_count, w.door.address_count, w.server.budget.users) == (0, 0, 0)


async def test_a_reader_that_does_not_read_holds_up_nobody_and_gets_everything_later() -> None:
    async with world() as w, http(w) as c, reader(c, STREAM, after=0) as slow, reader(c, STREAM) as quick:
        await slow.until("live")
        await quick.until("live")
        for _ in range(100):
            await w.append(STREAM, "x" * 100_000)
        assert len(await quick.texts(100)) == 100
        assert len(await slow.texts(100)) == 100


async def test_an_old_client_gets_the_events_without_chunks() -> None:
    async with world() as w:
        await w.append(STREAM, "a")
        up, down = await asyncio.open_connection("127.0.0.1", w.port)
        down.write(
            f"GET /streams/{STREAM}?after=0 HTTP/1.0\r\nHost: x\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {w.token()}\r\n\r\n".encode()
        )
        head = await up.readuntil(b"\r\n\r\n")
        assert b"chunked" not in head.lower()
        assert (await up.readuntil(b"\n\n")) == b"retry: 2000\n\n"
        down.close()


ADMIN = Principal(1, "root", is_admin=True)


def seqs(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [event["seq"] for event in answer.json()["events"]]


async def test_pages_follow_one_another_to_the_head() -> None:
    async with world() as w, http(w) as c:
        await w.append(STREAM, *map(str, range(7)))
        page = await c.get(f"/streams/{STREAM}", params={"limit": 3})
        assert seqs(page) == [1, 2, 3]
        assert page.json()["more"]
        page = await c.get(page.url.join(page.links["next"]["url"]))
        assert seqs(page) == [4, 5, 6]
        page = await c.get(page.url.join(page.links["next"]["url"]))
        assert seqs(page) == [7]
        said = page.json()
        assert (said["outcome"], said["next"], said["more"]) == ("resumed", 7, False)
        assert said["events"][0]["text"] == "6"


async def test_a_page_of_large_events_ends_before_its_limit() -> None:
    async with world() as w, http(w) as c:
        for _ in range(5):
            await w.append(STREAM, "x" * (200 << 10))
        page = await c.get(f"/streams/{STREAM}")
        assert seqs(page) == [1, 2, 3]
        assert seqs(await c.get(f"/streams/{STREAM}?after={page.json()['next']}")) == [4, 5]


async def test_the_last_events_and_the_state_can_be_asked_for() -> None:
    async with world() as w, http(w) as c:
        await w.append(STREAM, *map(str, range(60)))
        assert seqs(await c.get(f"/streams/{STREAM}?after=-50")) == list(range(11, 61))
        said = (await c.get(f"/streams/{STREAM}?after=snapshot")).json()
        assert said["snapshot"] == {
            "type": "snapshot", "stream": STREAM, "seq": 60, "state": {"emails": []}
        }  # fmt: skip
        assert (said["outcome"], said["events"], said["next"]) == ("snapshot", [], 60)


async def test_a_state_whose_entity_has_too_much_to_do_is_refused_as_busy_and_can_be_had_later() -> None:
    async with world() as w, http(w) as c:
        await w.append(STREAM, "a")
        w.snapshot_fault = Busy("roster/42 has too much to do")
        with capture_logs() as logged:
            refused = await c.get(f"/streams/{STREAM}?after=snapshot")
        said = refused.json()
        assert (refused.status_code, said["code"]) == (503, "busy"), said
        assert (refused.headers["content-type"], refused.headers["retry-after"]) == (PROBLEM, "1")
        assert said["retry_s"] == 1
        assert not [one for one in logged if one["event"] == "request_failed"]
        w.snapshot_fault = None
        assert (await c.get(f"/streams/{STREAM}?after=snapshot")).json()["snapshot"]["seq"] == 1


async def test_a_cursor_that_cannot_be_kept_gets_a_state_and_is_told_why() -> None:
    async with world() as w, http(w) as c:
        await w.append(STREAM, "a")
        for after in ("other-log:1", "9"):
            said = (await c.get(f"/streams/{STREAM}?after={after}")).json()
            assert (said["outcome"], said["snapshot"]["seq"], said["next"]) == ("reset", 1, 1)


async def test_a_stream_of_somebody_else_is_refused_like_one_that_does_not_exist() -> None:
    async with world() as w, http(w) as c, http(w, ADMIN) as admin:
        await w.append("user/43", "secret")
        theirs, none = await c.get("/streams/user/43"), await c.get("/streams/user/44")
        assert (theirs.status_code, none.status_code) == (403, 403)
        assert theirs.content == none.content
        assert theirs.headers["content-type"] == "application/problem+json"
        assert seqs(await admin.get("/streams/user/43")) == [1]
        assert seqs(await admin.get("/streams/log?after=start")) == [1]


async def test_without_a_good_token_nothing_is_told() -> None:
    async with world() as w:
        for token, code in (
            (None, "unauthenticated"),
            ("nonsense", "token_invalid"),
            (w.token(ttl_s=-1), "token_expired"),
        ):
            async with client(f"http://127.0.0.1:{w.port}", token) as c:
                answer = await c.get(f"/streams/{STREAM}")
                assert (answer.status_code, answer.json()["code"]) == (401, code)
                assert answer.headers["www-authenticate"] == "Bearer"
        async with http(w, None) as c:
            assert (await c.get(f"/streams/{STREAM}?token={w.token()}")).status_code == 400


async def test_a_long_poll_returns_with_the_next_event() -> None:
    async with world() as w, http(w) as c:
        waiting = asyncio.create_task(c.get(f"/streams/{STREAM}?after=0&wait=30"))
        await until(lambda: w.api.arrivals.waiting)
        await w.append(STREAM, "now")
        assert seqs(await waiting) == [1]
        assert w.feed.tap_count == 1, "nothing waits any more"


async def test_a_right_that_ends_while_a_request_waits_ends_the_request() -> None:
    async with world() as w, http(w) as c:
        waiting = asyncio.create_task(c.get(f"/streams/{STREAM}?after=0&wait=30"))
        await until(lambda: w.api.arrivals.waiting)
        w.ambient.advance(7200)
        await w.append(STREAM, "too late")
        assert (await waiting).status_code == 403


async def test_requests_that_wait_count_as_connections() -> None:
    async with world(door=AddressDoor(1)) as w, http(w) as c:
        waiting = asyncio.create_task(c.get(f"/streams/{STREAM}?after=0&wait=30"))
        await until(lambda: w.api.arrivals.waiting)
        refused = await c.get(f"/streams/{STREAM}?after=0&wait=30")
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        await w.append(STREAM, "a")
        assert seqs(await waiting) == [1]
        assert w.door.address_count == 0


async def test_a_client_that_leaves_waits_no_longer() -> None:
    async with world() as w, http(w) as c:
        waiting = asyncio.create_task(c.get(f"/streams/{STREAM}?after=0&wait=30"))
        await until(lambda: w.api.arrivals.waiting)
        waiting.cancel()
        await until(lambda: not w.api.arrivals.waiting)


async def test_a_closed_page_may_be_kept_and_is_not_sent_twice() -> None:
    async with world() as w, http(w) as c:
        await w.append(STREAM, "a", "b", "c")
        url = f"/streams/{STREAM}?after={w.log.log_id}:0&limit=2"
        page = await c.get(url)
        assert page.headers["cache-control"] == "private, max-age=86400, immutable"
        await w.append(STREAM, "d")
        again = await c.get(url, headers={"If-None-Match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await c.get(url)).content == page.content
        head = await c.head(url)
        assert (head.content, head.headers["content-length"]) == (b"", page.headers["content-length"])


async def test_a_log_that_cannot_be_read_is_a_passing_problem() -> None:
    async with world(tail_events_max=1) as w, http(w) as c:
        await w.append(STREAM, "a", "b")
        w.log.read_fault = Unavailable("no disk")
        answer = await c.get(f"/streams/{STREAM}")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_user_that_asks_too_often_is_told_when_to_come_back() -> None:
    async with world() as w, http(w) as c, http(w, ADMIN) as other:
        w.api.users.per_s = 1
        answers = [await c.get("/streams/system") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
        assert answers[-1].headers["retry-after"] == "1"
        assert (await other.get("/streams/system")).status_code == 200


async def test_what_a_parameter_must_be_is_said() -> None:
    async with world() as w, http(w) as c:
        answer = await c.get(f"/streams/{STREAM}?limit=0")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_field")
        assert answer.json()["detail"].startswith("limit:")
        assert (await c.post(f"/streams/{STREAM}")).status_code == 405


async def test_a_page_of_another_origin_must_be_named_by_the_setting() -> None:
    async with world(TransportSettings(origins=("https://app.org",))) as w, http(w) as c:
        evil = await c.get("/streams/system", headers={"Origin": "https://evil.org"})
        assert evil.status_code == 403
        assert "access-control-allow-origin" not in evil.headers
        good = await c.get("/streams/system", headers={"Origin": "https://app.org"})
        assert good.headers["access-control-allow-origin"] == "https://app.org"
        asked = {"Origin": "https://app.org", "Access-Control-Request-Method": "GET"}
        async with http(w, None) as stranger:
            before = await stranger.options("/streams/system", headers=asked)
        assert before.status_code == 204
        assert "Authorization" in before.headers["access-control-allow-headers"]
