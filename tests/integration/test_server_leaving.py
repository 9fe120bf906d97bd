"""A client that leaves: what it only asked for is not done; its commands are."""

import contextlib
import gc
from collections.abc import Iterator

import pytest

from huahuo.transport.load.fair_queueing import AT_ONCE
from huahuo.transport.server.connection import Connection
from huahuo.transport.session.session import Session
from huahuo.transport.wire.web_socket import WebSocket
from tests.support.drivers.rawclient import raw
from tests.support.worlds.people import ALICE
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"


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
