"""Server-sent events on the real server: cursors, outcomes, heartbeats, rights, ends, one frame for all."""

import asyncio
from contextlib import AsyncExitStack

from huahuo.transport.access.door import AddressDoor
from huahuo.transport.protocol.codes import CloseCode
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


async def test_a_reader_whose_token_ends_within_a_minute_is_told_at_once() -> None:
    async with world() as w, http(w, ttl_s=30) as c, reader(c, STREAM) as events:
        assert (await events.until("token_expiring")).data["in_s"] <= 30
        await events.until("live")


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
