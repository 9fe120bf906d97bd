"""Slow, wedged and many readers: the log is the buffer, and what is built has a bound in bytes."""

import asyncio
import contextlib
import gc
from typing import Any

import msgspec
import pytest
from websockets.frames import TEXT, Frame

from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.load import fair_queueing
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.server import connection
from huahuo.transport.wire.web_socket import WebSocket
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.drivers.session import types
from tests.support.worlds.people import BOB
from tests.support.worlds.watched_loop import WatchedLoop, watched_loop
from tests.support.worlds.wire import PLACE, World, until, world

V1 = "huahuo.v1"
MANY: dict[str, Any] = {"door": AddressDoor(0), "connections_per_user": 0}
"""Of one user and from one address, as many as one likes."""


def sockets(w: World) -> list[WebSocket]:
    return list(w.delivering.sockets)


def buffered(w: World) -> int:
    return max((ws.transport.get_write_buffer_size() for ws in sockets(w)), default=0)


async def test_a_reader_that_never_acks_stops_at_its_window_and_hurts_nobody() -> None:
    async with world() as w, raw(w.url, V1) as slow, raw(w.url, V1) as quick:
        await slow.authenticate(w.token(), window=10)
        await quick.authenticate(w.token(), window=4096)
        for number in range(100):
            await w.append("user/42", str(number))
        while len(quick.events("user/42")) < 100:
            await quick.next()
        await slow.quiet()
        assert [seq for seq, _ in slow.events("user/42")] == list(range(1, 11))
        assert "lag" in types(slow.seen)
        w.tick(29)
        await slow.quiet()
        w.tick(31)
        assert await slow.closed() == CloseCode.TOO_SLOW


@pytest.mark.parametrize("subprotocols", [(V1,), ()], ids=["v1", "classic"])
async def test_a_reader_that_does_not_read_costs_a_bounded_buffer(subprotocols: tuple[str, ...]) -> None:
    settings = TransportSettings(write_buffer_bytes_max=1 << 16, classic_buffer_bytes_max=1 << 17)
    async with world(settings) as w, raw(w.url, *subprotocols) as wedged, raw(w.url, V1) as other:
        await wedged.authenticate(w.token(), window=4096)
        await other.authenticate(w.token(), window=4096)
        wedged.ws.transport.pause_reading()
        total = 0
        while total < 400:
            await w.append("user/42", *["x" * 8000] * 10)
            total += 10
            while len(other.events("user/42")) < total:
                await other.next()
            await other.say(action="ack", cursors={"user/42": total})
        await other.quiet()
        # A frame that was begun below the bound may take it that much above.
        assert buffered(w) <= (1 << 17) + (256 << 10) + 4096
        wedged.ws.transport.resume_reading()
        while len(wedged.events("user/42")) < total:
            message = await wedged.next()
            if subprotocols and message["type"] == "events":
                last = message["seq"] + len(message["events"]) - 1
                await wedged.say(action="ack", cursors={"user/42": last})
        assert [seq for seq, _ in wedged.events("user/42")] == list(range(1, total + 1))


async def test_a_wedged_peer_is_gone_after_two_heartbeats_and_its_socket_is_freed() -> None:
    async with world(TransportSettings(close_timeout_s=0.1)) as w, raw(w.url, V1) as wedged:
        await wedged.authenticate(w.token())
        await wedged.quiet()
        wedged.ws.transport.pause_reading()
        w.tick(30)
        await asyncio.sleep(0)
        w.tick(31)
        await until(lambda: not (len(w.ticked) or w.runtime.alive))


async def test_pongs_alone_keep_a_connection() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        await client.quiet()
        (connection,) = w.connections
        for _ in range(6):
            w.tick(30)
            await until(lambda: connection.session.liveness.heard_s == w.ambient.monotonic_s())
        assert client.ws.close_code is None


async def test_with_too_many_commands_running_the_rest_waits_in_the_network() -> None:
    async with world(TransportSettings(commands_outstanding_max=3)) as w, raw(w.url, V1) as client:
        w.hold = asyncio.Event()
        await client.authenticate(w.token())
        for number in range(50):
            await client.say(action="note", id=str(number), text="x")
        await until(lambda: w.executed >= 3)
        for _ in range(50):
            await asyncio.sleep(0)
        assert w.executed == 3
        w.hold.set()
        answered = [(await client.until("success"))["id"] for _ in range(50)]
        assert sorted(answered, key=int) == [str(number) for number in range(50)]


async def test_what_was_sent_before_a_close_in_good_order_is_executed() -> None:
    async with world() as w:
        async with raw(w.url, V1) as client:
            await client.say(action="authenticate", token=w.token())
            for number in range(30):
                await client.say(action="note", id=f"c{number}", text=str(number))
            await client.ws.close()
        await until(lambda: w.executed == 30 and w.gate.running == 0 and len(w.ticked) == 0)
        assert w.log.head("user/42").seq == 30


async def test_a_client_that_does_not_read_its_answers_is_not_read_either() -> None:
    async def ask_for_ever(client: RawClient) -> None:
        while True:
            await client.say(action="echo", text="x" * 100, count=1000)

    settings = TransportSettings(messages_per_s=0, write_buffer_bytes_max=1 << 16)
    async with world(settings) as w, raw(w.url, V1) as greedy, raw(w.url, V1) as other:
        await greedy.authenticate(w.token())
        await other.authenticate(w.token())
        greedy.ws.transport.pause_reading()
        asking = asyncio.create_task(ask_for_ever(greedy))
        for _ in range(300):
            await other.quiet()
        assert buffered(w) < 20 << 20
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking


async def test_a_flooded_stream_does_not_hold_up_another_on_the_same_socket() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await w.append("user/42", *["x" * 100] * 3000)
        await w.append("system", "important")
        resume = {"log": w.log.log_id, "cursors": {"user/42": 0, "system": 0}}
        await client.authenticate(w.token(), window=4096, resume=resume)
        await client.until("events", stream="system")
        assert len(client.events("user/42")) <= 512


async def test_many_readers_of_one_stream_share_every_frame() -> None:
    async with world(**MANY) as w, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw(w.url, V1)) for _ in range(30)]
        for client in clients:
            await client.authenticate(w.token())
        frames = w.delivering.frames
        before = frames.built
        for number in range(10):
            await w.append("user/42", str(number))
        for client in clients:
            while len(client.events("user/42")) < 10:
                await client.next()
        assert frames.built - before == 10


async def test_many_clients_that_return_at_once_read_the_store_a_few_times() -> None:
    async with world(tail_events_max=100, **MANY) as w, contextlib.AsyncExitStack() as stack:
        await w.append("user/42", *["x" * 50] * 2000)
        clients = [await stack.enter_async_context(raw(w.url, V1)) for _ in range(40)]
        for number, client in enumerate(clients):
            resume = {"log": w.log.log_id, "cursors": {"user/42": number}}
            await client.say(action="authenticate", token=w.token(), window=4096, resume=resume)
        for number, client in enumerate(clients):
            await client.until("live", stream="user/42")
            assert [seq for seq, _ in client.events("user/42")] == list(range(number + 1, 2001))
        # 8 pages from the second on are the same for all, wherever each began.
        assert w.delivering.frames.built < 40 + 40


async def test_nothing_is_left_of_connections_that_came_and_went() -> None:
    async with world() as w:
        before = len(asyncio.all_tasks())
        for _ in range(30):
            async with raw(w.url, V1) as client:
                await client.authenticate(w.token())
                await client.say(action="note", text="x")
        await until(lambda: not (len(w.ticked) or w.runtime.alive or len(asyncio.all_tasks()) > before))
        assert w.delivering.fanout.stream_count == 0
        assert w.delivering.sockets == ()


@pytest.mark.loop(factory=WatchedLoop)
async def test_an_idle_connection_has_no_task_and_no_timer() -> None:
    async with world(**MANY) as w, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw(w.url, V1)) for _ in range(20)]
        for client in clients:
            await client.authenticate(w.token())
            await client.quiet()
        assert len(asyncio.all_tasks()) <= 4  # the test's own, and two of anyio's runner
        assert watched_loop().timers_waiting() <= 5


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


ADMIN = Principal(1, "root", is_admin=True)
COUNT = 40


class Ticking(FakeAmbient):
    """A clock that goes on by a millisecond whenever it is read."""

    def monotonic_s(self) -> float:
        """See `Ambient`."""
        self.advance(0.001)
        return super().monotonic_s()


def publishes(first: int, count: int) -> bytes:
    """`count` commands, with ids."""
    texts = [
        {"action": "publish", "id": f"p{number}", "stream": "user/7", "type": "tick", "n": number}
        for number in range(first, first + count)
    ]
    return b"".join(Frame(TEXT, msgspec.json.encode(text)).serialize(mask=True) for text in texts)


async def answers(client: RawClient, count: int) -> list[tuple[str, int]]:
    """(id, seq) of the next answers."""
    found: list[tuple[str, int]] = []
    while len(found) < count:
        said = await client.next()
        if said["type"] == "success":
            found.append((said["id"], said["at"]["seq"]))
    return found


async def test_the_answers_of_one_commit_leave_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(ADMIN))
        written: list[int] = []
        write = WebSocket.write

        def noted(ws: WebSocket, frame: bytes) -> None:
            written.append(w.disk.syncs)
            write(ws, frame)

        monkeypatch.setattr(WebSocket, "write", noted)
        client.ws.transport.write(publishes(0, COUNT))
        assert await answers(client, COUNT) == [(f"p{n}", n + 1) for n in range(COUNT)]
        assert len(written) == len(set(written)) < COUNT


async def test_a_flood_of_messages_is_handled_in_turns_and_in_order() -> None:
    async with world(ambient=Ticking(7)) as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(ADMIN))
        (ws,) = w.delivering.sockets
        client.ws.transport.write(publishes(0, COUNT))
        await until(lambda: ws.rest_bytes)
        assert await answers(client, COUNT) == [(f"p{n}", n + 1) for n in range(COUNT)]
        assert not ws.rest_bytes


async def test_messages_of_a_user_without_room_wait_in_order_while_anothers_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fair_queueing, "TURN_S", 0.0)
    monkeypatch.setattr(connection, "_AT_ONCE_S", 0.0)
    async with world(ambient=Ticking(7)) as w, raw(w.url, V1) as full, raw(w.url, V1) as free:
        await full.authenticate(w.token(ADMIN))
        await free.authenticate(w.token(Principal(2, "other", is_admin=True)))
        turns = w.delivering.turns.rounds
        turns.room.append(lambda user: user != ADMIN.name or w.log.head("user/7").seq >= 8)
        full.ws.transport.write(publishes(0, 8))
        await until(lambda: turns.waiting)
        free.ws.transport.write(publishes(8, 8))
        others = await answers(free, 8)
        assert [name for name, _ in others] == [f"p{n}" for n in range(8, 16)]
        assert [name for name, _ in await answers(full, 8)] == [f"p{n}" for n in range(8)]
        assert not turns.waiting
