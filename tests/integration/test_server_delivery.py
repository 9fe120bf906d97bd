"""The states of subscriptions on a real socket: what failed is tried again, and no wrong step is silent."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from huahuo.eventstore.errors import Unavailable
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.session.delivery_states import DeliveryState, Subscription
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.drivers.session import seqs
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"
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


async def test_every_subscription_of_a_closed_connection_is_gone() -> None:
    async with world() as w:
        async with raw(w.url, V1) as client:
            await client.authenticate(w.token())
            left = subscription(w)
        await until(lambda: not w.hub.joined_count)
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
