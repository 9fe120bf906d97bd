"""The promise over real sockets: resume, order, take-over, refresh, restart, in both dialects.

Named after bugs of others.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from huahuo.actors import AskTimeout
from huahuo.actors.entities.decider import Busy
from huahuo.eventstore.errors import Unavailable
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.session.delivery_states import (
    FAULTS_MAX,
    LONGEST_S,
    PATIENCE_S,
    RETRY_S,
    DeliveryState,
    Subscription,
)
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.drivers.session import seqs, types
from tests.support.patience import WITHIN_S
from tests.support.worlds.people import ALICE, BOB, ROOT
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"


def texts(client: RawClient, stream: str = "user/42") -> list[str]:
    return [event["text"] for _, event in client.events(stream)]


async def resume(w: World, cursor: int, **fields: object) -> dict[str, object]:
    return {"log": w.log.log_id, "cursors": {"user/42": cursor}, **fields}


async def test_reconnecting_at_once_loses_and_repeats_nothing() -> None:
    async with world() as w:
        seen: list[int] = []
        for number in range(20):
            async with raw(w.url, V1) as client:
                await client.authenticate(w.token(), client="dev", resume=await resume(w, len(seen)))
                await w.append("user/42", str(number))
                await client.until("events", seq=len(seen) + 1)
                seen += [seq for seq, _ in client.events("user/42")]
        assert seen == list(range(1, 21))


async def test_a_cursor_ahead_of_the_head_is_reset_and_counted() -> None:
    async with world() as w, raw(w.url, V1) as client:
        result = await client.authenticate(w.token(), resume=await resume(w, 99))
        assert result["streams"]["user/42"]["outcome"] == "reset"
        assert (await client.until("snapshot"))["seq"] == 0
        assert b"huahuo_cursor_ahead_total 1.0" in w.metrics_text


async def test_the_reply_comes_before_the_event_that_it_caused() -> None:
    async with world() as w, raw(w.url, V1) as client, raw(w.url, V1) as other:
        w.hold = asyncio.Event()
        await client.authenticate(w.token())
        await other.authenticate(w.token())
        await client.quiet()
        await client.say(action="note", id="c1", text="caused")
        await other.until("events")  # it is durable, and another connection sees it
        assert "echo" not in types(await client.quiet())
        w.hold.set()
        assert [(await client.next())["type"], (await client.next())["type"]] == ["success", "events"]


async def test_what_is_sent_right_behind_authenticate_is_handled_after_it_in_order() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.say(action="authenticate", token=w.token())
        await client.say(action="note", id="a", text="1")
        await client.say(action="subscribe", id="b", stream="group/ops")
        while not {"success", "subscribed"} <= set(types(client.seen)):
            await client.next()
        assert client.seen[0]["type"] == "authentication_result"
        assert client.seen[0]["success"]


async def test_a_query_sees_what_the_commands_sent_before_it_did() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(), client="dev")
        w.hold = asyncio.Event()
        await client.say(action="note", id="c1", text="x")
        await client.say(action="echo", id="q1", text="y")
        await until(lambda: w.log.head("user/42").seq)
        assert "echo" not in types(await client.quiet())
        w.hold.set()
        assert (await client.until("echo"))["id"] == "q1"
        assert types(client.seen).index("success") < types(client.seen).index("echo")


async def test_a_newer_connection_of_the_same_client_takes_over_from_a_half_open_one() -> None:
    async with world() as w, raw(w.url, V1) as older:
        await older.authenticate(w.token(), client="dev")
        older.ws.transport.pause_reading()  # it neither reads nor answers, as behind a dead network
        async with raw(w.url, V1) as newer:
            await newer.authenticate(w.token(), client="dev", resume=await resume(w, 0))
            await w.append("user/42", "for the newer")
            await newer.until("events")
            older.ws.transport.resume_reading()
            assert await older.closed() == CloseCode.SUPERSEDED
            assert "goaway" in types(older.seen)
            assert texts(older) == []
            assert types(await newer.quiet()) == []


async def test_another_user_with_the_same_client_does_not_take_over() -> None:
    async with world() as w, raw(w.url, V1) as alice, raw(w.url, V1) as bob:
        await alice.authenticate(w.token(ALICE), client="dev")
        await bob.authenticate(w.token(BOB), client="dev")
        await alice.quiet()
        assert alice.ws.close_code is None


async def test_a_refresh_in_the_middle_of_a_replay_repeats_and_loses_nothing() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await w.append("user/42", *[str(n) for n in range(200)])
        await client.authenticate(w.token(), window=20, resume=await resume(w, 0))
        acked = 0
        while acked < 200:
            run_of = await client.until("events")
            acked = run_of["seq"] + len(run_of["events"]) - 1
            if acked < 60:
                await client.say(action="authenticate", token=w.token())
            await client.say(action="ack", cursors={"user/42": acked})
        assert [seq for seq, _ in client.events("user/42")] == list(range(1, 201))


async def test_at_its_end_a_token_takes_the_connection_along_and_says_so() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(ttl_s=90))
        w.tick(31)
        assert (await client.until("token_expiring"))["in_s"] == 59
        await client.quiet()
        w.tick(59)
        assert await client.closed() == CloseCode.TOKEN_EXPIRED


async def test_in_the_midst_of_a_replay_the_end_of_its_token_ends_it() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await w.append("user/42", *[str(n) for n in range(40)])
        await client.authenticate(w.token(ttl_s=20), window=10, resume=await resume(w, 0))
        await client.until("events")
        w.tick(20)  # most of it still waits for the window
        assert await client.closed() == CloseCode.TOKEN_EXPIRED
        assert [seq for seq, _ in client.events("user/42")] == list(range(1, 11))


async def test_a_revoked_user_loses_the_sockets_and_gets_no_new_one() -> None:
    async with world() as w, raw(w.url, V1) as victim, raw(w.url, V1) as admin:
        token = w.token()
        await victim.authenticate(token)
        await admin.authenticate(w.token(ROOT))
        w.ambient.advance(1)
        async with asyncio.timeout(WITHIN_S):
            await admin.say(action="revoke", id="r", user_id=42)
            assert await victim.closed() == CloseCode.REVOKED
        async with raw(w.url, V1) as again:
            assert (await again.authenticate(token))["code"] == "token_revoked"
            assert await again.closed() == CloseCode.REVOKED


async def test_a_failed_append_shows_no_event_and_the_same_id_may_be_tried_again() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(), client="dev")
        await client.quiet()
        w.log.lose.append("before")
        await client.say(action="note", id="c1", text="x")
        error = await client.next()
        assert (error["code"], error["id"]) == ("unavailable", "c1")
        await client.say(action="note", id="c1", text="x")
        assert (await client.next())["type"] == "success"
        assert (await client.next())["type"] == "events"


async def test_an_append_whose_outcome_was_unknown_is_answered_once_and_for_all_by_its_repeat() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(), client="dev")
        await client.quiet()
        w.log.lose.append("after")
        await client.say(action="note", id="c1", text="x")
        await client.until("error", code="unavailable")
        await client.say(action="note", id="c1", text="x")
        assert (await client.until("success"))["duplicate"]
        await client.quiet()
        assert texts(client) == ["x"]


async def test_the_text_of_an_exception_stays_in_the_server() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        await client.say(action="note", id="c", text="crash")
        error = await client.until("error")
        assert (error["code"], bool(error["details"])) == ("internal", True)
        assert "canary" not in str(client.seen)
        assert types(await client.quiet()) == []


async def test_a_page_that_fails_for_no_known_reason_ends_the_connection_instead_of_silence() -> None:
    async with world(tail_events_max=2) as w, raw(w.url, V1) as client:
        await w.append("user/42", *"abcdef")
        w.log.read_fault = RuntimeError("canary")
        await client.authenticate(w.token(), resume=await resume(w, 0))
        assert await client.closed() == CloseCode.SERVER_FAULT
        assert "canary" not in str(client.seen)


async def test_a_fold_that_always_fails_ends_its_subscription_and_nothing_else() -> None:
    async with world() as w, raw(w.url, V1) as client:
        w.snapshot_fault = RuntimeError("canary")
        await client.authenticate(w.token(), resume=await resume(w, 99))
        said = await client.quiet()
        while "unsubscribed" not in types(said):
            w.tick(LONGEST_S)
            said += await client.quiet()
        (ended,) = [one for one in said if one["type"] == "unsubscribed"]
        assert (ended["stream"], ended["reason"]) == ("user/42", "internal")
        await client.say(action="echo", id="q", text="still here")
        assert (await client.until("echo"))["text"] == "still here"
        assert "canary" not in str(client.seen)


@pytest.mark.parametrize(
    "fault", [Unavailable("the disk"), Busy("the inbox"), AskTimeout("user/42", 30), TimeoutError()]
)
async def test_a_snapshot_that_cannot_be_had_now_is_tried_again(fault: Exception) -> None:
    async with world() as w, raw(w.url, V1) as client:
        w.snapshot_fault = fault
        await client.authenticate(w.token(), resume=await resume(w, 99))
        for _ in range(FAULTS_MAX + 1):  # however often
            assert set(types(await client.quiet())) <= {"live"}  # of `system`
            w.tick(5)
        w.snapshot_fault = None
        w.tick(LONGEST_S)
        assert (await client.until("snapshot"))["stream"] == "user/42"


async def test_a_client_whose_snapshot_cannot_be_had_for_long_is_told_when_to_come_back() -> None:
    async with world() as w, raw(w.url, V1) as client:
        w.snapshot_fault = Busy("the inbox")
        await client.authenticate(w.token(), resume=await resume(w, 99))
        await client.quiet()
        w.tick(PATIENCE_S)
        ended = await client.until("unsubscribed")
        assert (ended["stream"], ended["reason"]) == ("user/42", "busy")
        low, high = RETRY_S
        assert low <= ended["retry_s"] <= high
        w.snapshot_fault = None
        await client.say(action="subscribe", stream="user/42", after="snapshot")
        await client.until("snapshot")


async def test_a_compacted_range_is_told_of() -> None:
    async with world(tail_events_max=2) as w, raw(w.url, V1) as client:
        await w.append("user/42", *[str(n) for n in range(10)])
        w.log.compacted |= {3, 4, 5}
        await client.authenticate(w.token(), resume=await resume(w, 0))
        await client.until("live", stream="user/42")
        skipped = next(m for m in client.seen if m["type"] == "skipped")
        assert (skipped["seq"], skipped["to"]) == (3, 5)
        assert [seq for seq, _ in client.events("user/42")] == [1, 2, 6, 7, 8, 9, 10]


async def test_a_classic_client_talks_and_listens() -> None:
    async with world() as w, raw(w.url) as client:
        assert client.ws.subprotocol is None
        assert (await client.authenticate(w.token()))["success"]
        await client.say(action="note", id="c", text="hello")
        reply = await client.until("success")
        event = await client.next()
        assert reply["at"] == {"stream": "user/42", "seq": 1, "position": 1}
        assert (event["type"], event["text"], event["stream"], event["seq"]) == (
            "noted",
            "hello",
            "user/42",
            1,
        )
        await client.say(action="ack", cursors={"user/42": 1})
        assert types(await client.quiet()) == []


async def test_a_classic_client_resumes() -> None:
    async with world() as w, raw(w.url) as client:
        await w.append("user/42", *[str(n) for n in range(1000)])
        resume = {"log": w.log.log_id, "cursors": {"user/42": 990}}
        await client.authenticate(w.token(), resume=resume)
        await client.until("live", stream="user/42")
        assert [seq for seq, _ in client.events("user/42")] == list(range(991, 1001))


async def test_its_heartbeat_comes_and_its_silence_ends_with_1001() -> None:
    async with world() as w, raw(w.url) as client:
        await client.authenticate(w.token())
        await client.quiet()
        w.tick(30)
        await client.until("heartbeat")
        await client.quiet()
        client.ws.transport.pause_reading()
        w.tick(91)
        client.ws.transport.resume_reading()
        assert await client.closed() == CloseCode.GOING_AWAY


async def test_a_drain_closes_it_with_1012() -> None:
    async with world() as w, raw(w.url) as client:
        await client.authenticate(w.token())
        await w.delivering.drain(2)
        assert await client.closed() == CloseCode.RESTART
        assert client.seen[-1]["code"] == CloseCode.RESTART


STREAM = "user/42"


def subscription(w: World) -> Subscription:
    (connection,) = w.connections
    return connection.session.delivery.subs[STREAM]


async def behind(w: World, client: RawClient) -> None:
    """Sign in behind twenty events that left the memory."""
    await w.append(STREAM, *map(str, range(20)))
    await client.authenticate(w.token(), resume={"log": w.log.log_id, "cursors": {STREAM: 0}})


async def test_a_page_that_could_not_be_read_is_read_at_the_next_tick() -> None:
    async with world(tail_events_max=4) as w, raw(w.url, V1) as client:
        w.log.read_fault = Unavailable("no disk")
        await behind(w, client)
        await until(lambda: subscription(w).state is DeliveryState.FAILED)
        w.log.read_fault = None
        await w.append(STREAM, "more")
        assert subscription(w).state is DeliveryState.FAILED, "a commit does not hurry it"
        w.tick(1)
        assert seqs([await client.until("events")], STREAM)[0] == 1
        await until(lambda: subscription(w).state is DeliveryState.LIVE)


async def test_a_page_for_a_position_that_was_left_is_dropped() -> None:
    async with world(tail_events_max=4) as w, raw(w.url, V1) as client:
        w.log.read_gate = gate = asyncio.Event()
        await behind(w, client)
        left = subscription(w)
        await until(lambda: left.state is DeliveryState.FETCHING)
        await client.say(action="subscribe", id="s", stream=STREAM, after="head")
        await client.until("subscribed")
        gate.set()
        await w.append(STREAM, "more")
        assert seqs([await client.until("events")], STREAM) == [21]
        assert left.state is DeliveryState.GONE


async def before_a_page(w: World, client: RawClient, confuse: Callable[[], None]) -> None:
    w.log.read_gate = gate = asyncio.Event()
    await behind(w, client)
    confuse()
    gate.set()


async def before_a_snapshot(w: World, client: RawClient, confuse: Callable[[], None]) -> None:
    w.before_snapshot = confuse
    await client.authenticate(w.token(), resume={"log": w.log.log_id, "cursors": {STREAM: 99}})


async def before_a_commit(w: World, client: RawClient, confuse: Callable[[], None]) -> None:
    await client.authenticate(w.token())
    confuse()
    await w.append(STREAM, "x")


@pytest.mark.parametrize(
    ("when", "state"),
    [
        (before_a_page, DeliveryState.LIVE),
        (before_a_snapshot, DeliveryState.HELD),
        (before_a_commit, DeliveryState.TURN),
    ],
)
async def test_a_step_that_the_table_does_not_list_ends_the_connection_and_is_logged(
    when: Callable[[World, RawClient, Callable[[], None]], Awaitable[None]],
    state: DeliveryState,
) -> None:
    async with world(tail_events_max=4) as w, raw(w.url, V1) as client:

        def confuse() -> None:
            subscription(w).state = state

        with capture_logs() as logs:
            await when(w, client, confuse)
            assert await client.closed() == CloseCode.SERVER_FAULT
        assert "connection_failed" in [one["event"] for one in logs]
        assert client.seen[-1]["type"] == "goaway"
