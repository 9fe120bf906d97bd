"""A node that is drained sends its clients away at once, says where to, and lets its administrators in."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from huahuo.actors.plugins.principal import Principal
from huahuo.app.cluster_actions import Drain
from huahuo.cluster.duty import Duty
from huahuo.cluster.members import Member
from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.http import client, reader
from tests.support.drivers.rawclient import raw
from tests.support.worlds.people import ALICE, ROOT
from tests.support.worlds.wire import PLACE, World, world

OTHER = "http://web-2:8765"
STREAM = "user/42"


async def _nothing() -> None:
    """The work of this node."""


@asynccontextmanager
async def node(*others: str) -> AsyncIterator[tuple[World, Drain, list[bool]]]:
    """A node, its drain, and what it said of whether it is ready. `others` take clients."""
    async with world() as w:
        duty = Duty(
            log=w.log, ambient=w.ambient, node="web-1", work=_nothing, rest=_nothing,
            tell=lambda beat: Member(url=w.url, build="1", keys="k", beat=beat, at_ms=0, applied=0),
        )  # fmt: skip

        async def where() -> Sequence[str]:
            return others

        ready: list[bool] = []
        drain = Drain(duty, w.hub, ready.append, where)
        await duty.start()
        try:
            yield w, drain, ready
        finally:
            drain.stop()
            await duty.stop()


async def _turned_away(w: World, who: Principal) -> str:
    """The reason that a client gets that signs in now."""
    async with raw(w.url, "huahuo.v1") as newcomer:
        await newcomer.say(action="authenticate", token=w.token(who))
        assert await newcomer.closed() == CloseCode.DRAINING
        return next(str(message["reason"]) for message in newcomer.seen if message["type"] == "goaway")


@pytest.mark.parametrize("place", ["own", "worker"])
async def test_clients_of_a_drained_node_and_newcomers_are_told_where_to_go(place: str) -> None:
    token = PLACE.set(place)
    try:
        async with node(OTHER) as (w, drain, ready), raw(w.url, "huahuo.v1") as there:
            await there.authenticate(w.token(ALICE))
            drained = await drain.set(undo=False)
            assert (drained.clients, ready) == (1, [False])
            assert await there.closed() == CloseCode.DRAINING
            assert OTHER in await _turned_away(w, ALICE)
            await drain.set(undo=True)
            async with raw(w.url, "huahuo.v1") as newcomer:
                await newcomer.authenticate(w.token(ALICE))
            assert ready == [False, True]
    finally:
        PLACE.reset(token)


async def test_a_reader_of_server_sent_events_is_told_too() -> None:
    async with node(OTHER) as (w, drain, _), client(f"http://127.0.0.1:{w.port}", w.token(ALICE)) as c:
        await drain.set(undo=False)
        async with reader(c, STREAM, after=0) as events:
            await events.until("goaway")
        assert OTHER in str(events.seen)


async def test_an_administrator_gets_in_to_take_the_node_back() -> None:
    async with node() as (w, drain, _):
        await drain.set(undo=False)
        async with raw(w.url, "huahuo.v1") as newcomer:
            await newcomer.authenticate(w.token(ROOT))
            await drain.set(undo=True)
            await newcomer.say(action="whatever", id="1")
            await newcomer.until("error")


async def test_newcomers_are_sent_to_all_nodes_that_take_clients_in_turns() -> None:
    async with node(OTHER, "http://web-3:8765") as (w, drain, _):
        await drain.set(undo=False)
        told = {await _turned_away(w, ALICE) for _ in range(2)}
        assert told == {f"this node is drained: go to {url}" for url in (OTHER, "http://web-3:8765")}


async def test_where_no_node_takes_clients_none_is_named() -> None:
    async with node() as (w, drain, _):
        await drain.set(undo=False)
        assert await _turned_away(w, ALICE) == "this node is drained"
