"""The end of the server, which nobody can hold up, and of a client, whose commands are still done."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from huahuo.transport.load.fair_queueing import AT_ONCE
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.server.connection import Connection
from huahuo.transport.session.session import Session
from huahuo.transport.wire.lobby import Greeting
from huahuo.transport.wire.web_socket import WebSocket
from tests.support.drivers.rawclient import raw
from tests.support.patience import WITHIN_S
from tests.support.worlds.people import ALICE
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"


async def test_everybody_is_told_before_the_end() -> None:
    async with world() as w, raw(w.url, V1) as one, raw(w.url, V1) as silent:
        await one.authenticate(w.token())
        await w.delivering.drain(2)
        for client in (one, silent):
            assert await client.closed() == CloseCode.DRAINING
            assert (client.seen[-1]["type"], client.seen[-1]["code"]) == ("goaway", 4000)
            assert client.seen[-1]["retry_s"] == [0.5, 1.5]
        assert w.delivering.wires.feed.tap_count == 0


async def test_a_peer_that_does_not_read_cannot_hold_it() -> None:
    async with world(TransportSettings(close_timeout_s=0.2)) as w, raw(w.url, V1) as wedged:
        await wedged.authenticate(w.token(), window=4096)
        wedged.ws.transport.pause_reading()
        for _ in range(40):
            await w.append("user/42", *["x" * 60_000] * 4)
        began = asyncio.get_running_loop().time()
        await w.delivering.drain(WITHIN_S)
        assert asyncio.get_running_loop().time() - began < WITHIN_S / 2


async def test_a_socket_without_a_handshake_cannot_hold_it() -> None:
    async with world() as w:
        _, writer = await asyncio.open_connection("127.0.0.1", w.port)
        await until(lambda: w.delivering.unauthenticated_count)
        began = asyncio.get_running_loop().time()
        await w.delivering.drain(WITHIN_S)
        assert asyncio.get_running_loop().time() - began < WITHIN_S / 2
        writer.close()


async def test_a_client_welcomed_in_the_very_turn_of_the_drain_is_told_too() -> None:
    async with world() as w:
        spoke = w.server.handshakes.spoke
        drains: list[asyncio.Task[None]] = []

        def spoke_and_drained(greeting: Greeting, data: bytes) -> None:
            drains.append(asyncio.create_task(w.delivering.drain(2)))  # runs before the socket's own task
            spoke(greeting, data)

        w.server.handshakes.spoke = spoke_and_drained  # type: ignore[method-assign]
        async with raw(w.url, V1) as client:
            assert await client.closed() == CloseCode.DRAINING
            assert client.seen[-1]["type"] == "goaway"
        await asyncio.gather(*drains)


async def test_a_drained_server_takes_nobody() -> None:
    async with world() as w:
        await w.delivering.drain(1)
        await w.delivering.drain(1)
        with pytest.raises(OSError):  # noqa: PT011  refused or reset, as the system likes
            async with raw(w.url, V1):
                pass


async def test_a_command_under_way_is_not_cancelled_by_the_end_of_its_connection() -> None:
    async with world() as w, raw(w.url, V1) as client:
        w.hold = asyncio.Event()
        await client.authenticate(w.token(), client="dev")
        await client.say(action="note", id="c1", text="x")
        await until(lambda: w.log.head("user/42").seq)
        await w.delivering.drain(1)
        assert w.gate.running == 1
        w.hold.set()
        await w.gate.drain(1)
        assert w.gate.running == 0


async def test_a_close_that_raises_ends_only_its_own_connection() -> None:
    async with world() as w, raw(w.url, V1) as faulty, raw(w.url, V1) as other:
        await faulty.authenticate(w.token())
        await other.authenticate(w.token())
        broken = w.connections[0]

        def raises(message: object) -> None:
            raise RuntimeError("canary")

        broken.on_urgent = raises  # type: ignore[method-assign]
        await w.delivering.drain(0.2)
        assert await faulty.closed() == CloseCode.SERVER_FAULT
        assert await other.closed() == CloseCode.DRAINING
        assert other.seen[-1]["type"] == "goaway"
        assert w.delivering.wires.feed.tap_count == 0


@contextlib.asynccontextmanager
async def signing_in(w: World) -> AsyncIterator[None]:
    """A client whose token is judged for ever."""
    w.delivering.wires.verifier.verify = lambda *_: asyncio.get_running_loop().create_future()  # type: ignore[method-assign]
    async with raw(w.url, V1) as client:
        await client.say(action="authenticate", token="t")
        await until(lambda: any(one.session.busy for one in w.connections))
        yield


async def test_a_connection_that_never_finishes_a_message_cannot_hold_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huahuo.transport.server.server.CANCEL_TIMEOUT_S", 0.05)
    async with world() as w, signing_in(w):
        await w.delivering.drain(0.05)
        await until(lambda: not w.delivering.sockets)
        assert w.delivering.wires.feed.tap_count == 0


async def test_a_drain_that_was_cancelled_may_be_called_again() -> None:
    async with world() as w, signing_in(w):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await w.delivering.drain(5)
        assert w.delivering.sockets
        await w.delivering.drain(0.05)
        await until(lambda: not w.delivering.sockets)


async def test_queries_of_a_client_that_left_wait_for_no_turn_and_its_commands_are_carried_out() -> None:
    async with world() as w, raw(w.url, V1) as client, contextlib.AsyncExitStack() as turns:
        await client.authenticate(w.token())
        for _ in range(AT_ONCE):  # all that its user may have
            await turns.enter_async_context(w.delivering.turns.turn(ALICE.name))
        for number in range(90):
            await client.say(action="echo", id=f"q{number}", text="x")
        await client.say(action="note", id="c1", text="bye")
        await until(lambda: w.delivering.turns.waiting)
        client.ws.transport.abort()
        await until(lambda: not w.hub.joined_count and not w.delivering.turns.waiting)
        await until(lambda: w.executed)


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def come_and_go(w: World, *, clean: bool) -> None:
    """All that makes parts of a connection: queries, a command, a snapshot, and events with the same ack."""
    async with raw(w.url, V1) as client:
        await client.authenticate(w.token())
        await client.say(action="subscribe", id="s", stream=ALICE.name, after="snapshot")
        await client.until("snapshot")
        for number in range(3):
            await client.say(action="echo", id=f"q{number}", text="x")
            await client.say(action="note", id=f"c{number}", text="y")
            at = (await client.until("events"))["seq"]
            await client.say(action="ack", cursors={ALICE.name: at})
        if not clean:
            await client.say(action="echo", id="unanswered", text="x")
            client.ws.transport.abort()


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "aborted"])
async def test_a_connection_that_ended_is_freed_without_the_collector(clean: bool) -> None:
    with no_collector():
        async with world() as w:
            before = parts_alive()
            for _ in range(5):
                await come_and_go(w, clean=clean)
            await until(lambda: not w.hub.joined_count and parts_alive() == before)


def parts_alive() -> int:
    return sum(type(one) in (Connection, Session, WebSocket) for one in gc.get_objects())
