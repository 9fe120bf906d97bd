"""What is built and not read has a bound in bytes, and none of it outlives its connection."""

import asyncio
import gc

import pytest

from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.worlds.people import BOB
from tests.support.worlds.wire import PLACE, World, until, world

V1 = "huahuo.v1"
LARGE = 1 << 20
SMALL_BUDGET = TransportSettings(
    unsent_bytes_max=12 * LARGE,
    unsent_bytes_per_user=6 * LARGE,
    unsent_bytes_per_connection=5 * LARGE,
    unsent_stuck_s=5.0,
)


async def ask_for_much(client: RawClient, count: int) -> None:
    for number in range(count):
        await client.say(action="echo", id=f"q{number}", text="x" * 64, count=LARGE // 64)


def paused(w: World) -> bool:
    """Whether a client's socket takes no more."""
    return any(ws.paused for ws in w.delivering.sockets)


async def hoarders(w: World, clients: list[RawClient]) -> None:
    """Ask for more than the budget holds, and read nothing."""
    for client in clients:
        await client.authenticate(w.token(), client=f"c{id(client)}")
        client.ws.transport.pause_reading()
        await ask_for_much(client, 20)


async def test_replies_that_are_not_read_take_no_more_than_the_users_part() -> None:
    async with world(SMALL_BUDGET) as w, raw(w.url, V1) as one, raw(w.url, V1) as two:
        await hoarders(w, [one, two])
        budget = w.delivering.budget
        await until(lambda: budget.used > 0)
        most = 0
        for _ in range(400):
            await asyncio.sleep(0)
            most = max(most, budget.used)
        # A reply may turn out larger than was estimated, once for each that is built at once.
        assert most <= 6 * LARGE + 4 * LARGE


async def test_another_user_is_served_meanwhile() -> None:
    async with world(SMALL_BUDGET) as w, raw(w.url, V1) as one, raw(w.url, V1) as two:
        await hoarders(w, [one])
        await two.authenticate(w.token(BOB))
        await ask_for_much(two, 3)
        for number in range(3):
            reply = await two.until("echo", id=f"q{number}")
            assert len(reply["text"]) == LARGE


async def test_everything_counts_as_gone_once_the_connections_are() -> None:
    async with world(SMALL_BUDGET) as w:
        async with raw(w.url, V1) as one, raw(w.url, V1) as two:
            await hoarders(w, [one, two])
            await until(lambda: w.delivering.budget.used > 0)
            for client in (one, two):
                client.ws.transport.abort()
        await until(lambda: w.delivering.budget.used == 0)
        assert w.delivering.budget.users == 0


async def test_a_client_that_reads_again_gets_everything_it_asked_for() -> None:
    async with world(SMALL_BUDGET) as w, raw(w.url, V1) as one:
        await hoarders(w, [one])
        await until(lambda: w.delivering.budget.used > 0)
        one.ws.transport.resume_reading()
        answered: set[str] = set()
        while len(answered) < 20:
            answered.add((await one.until("echo"))["id"])
        await one.quiet()
        await until(lambda: w.delivering.budget.used == 0)


async def test_a_client_that_does_not_read_is_closed_when_others_need_the_room() -> None:
    async with world(SMALL_BUDGET) as w, raw(w.url, V1) as one:
        await hoarders(w, [one])
        budget = w.delivering.budget
        # Inside another server the waiting is that server's, and shows in what is held for the client.
        await until(lambda: budget.used > 0 and (PLACE.get() == "asgi" or paused(w)))
        w.tick(1)
        w.tick(6)
        assert w.hub.joined_count == 1
        budget.short_at_s = w.ambient.monotonic_s()  # another user was refused
        w.tick(1)
        await until(lambda: w.hub.joined_count == 0)
        assert b'huahuo_closes_total{code="4008"} 1.0' in w.metrics_text


async def test_a_connection_that_ends_while_replies_are_built_leaves_nothing_to_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        async with world(SMALL_BUDGET) as w:
            for _ in range(10):
                async with raw(w.url, V1) as one:
                    await hoarders(w, [one])
                    one.ws.transport.abort()
            await until(lambda: w.delivering.budget.used == 0)
            await until(lambda: w.gate.running == 0)
            del one
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        held = gc.get_referents(*gc.garbage)
        gc.garbage.clear()
        assert [len(o) for o in held if type(o) in (bytes, str) and len(o) >= LARGE] == []
    finally:
        gc.enable()


@pytest.mark.parametrize("count", [100])
async def test_many_connections_that_want_one_snapshot_share_it(count: int) -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        await client.until("live", stream="user/42")
        for _ in range(count):
            await client.say(action="subscribe", stream="user/42", after="snapshot")
        for _ in range(count):
            await client.until("subscribed")
        await client.quiet()
        assert w.delivering.pictures.drawn == 1
