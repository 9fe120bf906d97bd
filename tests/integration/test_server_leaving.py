"""A client that leaves: what it only asked for is not done; its commands are."""

import contextlib

from huahuo.transport.server.turns import AT_ONCE
from tests.support.drivers.rawclient import raw
from tests.support.worlds.people import ALICE
from tests.support.worlds.wire import until, world

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
