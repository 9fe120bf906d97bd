"""A node that is drained sends its clients away at once, says where to, and lets its administrators in."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from huahuo.actors.plugins.calls import Principal
from huahuo.app import cluster_service
from huahuo.app.cluster_service import Drain, register_cluster_actions
from huahuo.cluster import members
from huahuo.cluster.duty import Duty
from huahuo.cluster.members import Member
from huahuo.cluster.node_requests import Asker, NodesDoor, Peers
from huahuo.eventstore.model import Append
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
    async with _node(others) as (w, drain, ready, _):
        yield w, drain, ready


@asynccontextmanager
async def _node(others: Sequence[str]) -> AsyncIterator[tuple[World, Drain, list[bool], Duty]]:
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
            yield w, drain, ready, duty
        finally:
            drain.stop()
            await duty.stop()


@asynccontextmanager
async def asked(gone: str = "web-3") -> AsyncIterator[World]:
    """A node that takes the commands of administrators, beside `gone`, whose machine is off."""
    async with _node([OTHER]) as (w, drain, _, duty):
        at = Member(
            url="http://127.0.0.1:1", build="1", keys="k", beat=1, at_ms=w.ambient.now_ms(), applied=0
        )
        await w.log.append(Append(ts_ms=1, rows=(members.put_member(gone, at),)))
        asker = Asker(secret=b"s" * 32, node="web-1", log_id=w.log.log_id, ambient=w.ambient)
        door = NodesDoor(secret=b"s" * 32, node="web-1", log_id=w.log.log_id, ambient=w.ambient)
        peers = Peers(asker, door, members=lambda: duty.members, silent_s=duty.silent_s)
        nobody = cast("Any", None)
        register_cluster_actions(
            w.registry, duty, peers, nobody, drain, nobody
        )  # here none trims or finalizes
        cluster_service.register_node_actions(w.registry, duty, None)
        yield w


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


async def test_who_drains_the_node_that_it_asks_gets_the_reply_and_stays() -> None:
    async with asked() as w, raw(w.url, "huahuo.v1") as operator, raw(w.url, "huahuo.v1") as guest:
        await guest.authenticate(w.token(ALICE))
        await operator.authenticate(w.token(ROOT))
        await operator.say(action="drain_node", node="web-1", id="1")
        assert (await operator.until("drained"))["clients"] == 1
        assert await guest.closed() == CloseCode.DRAINING
        await operator.say(action="drain_node", node="web-1", undo=True, id="2")
        await operator.until("drained")


async def test_who_drains_the_node_without_an_id_gets_the_reply_too() -> None:
    async with asked() as w, raw(w.url, "huahuo.v1") as operator:
        await operator.authenticate(w.token(ROOT), client="cli")
        await operator.say(action="drain_node", node="web-1")
        await operator.until("drained")


async def test_others_without_a_name_are_told_where_the_one_who_drains_has_one() -> None:
    async with asked() as w, raw(w.url, "huahuo.v1") as operator, raw(w.url, "huahuo.v1") as unnamed:
        await operator.authenticate(w.token(ROOT), client="cli")
        await unnamed.authenticate(w.token(ROOT))
        await operator.say(action="drain_node", node="web-1", id="1")
        assert (await operator.until("drained"))["clients"] == 1
        assert await unnamed.closed() == CloseCode.DRAINING


async def test_other_connections_of_who_drains_a_node_are_told_and_may_come_back() -> None:
    async with asked() as w, raw(w.url, "huahuo.v1") as operator, raw(w.url, "huahuo.v1") as tail:
        await operator.authenticate(w.token(ROOT), client="cli")
        await tail.authenticate(w.token(ROOT), client="tail")
        await operator.say(action="drain_node", node="web-1", id="1")
        assert (await operator.until("drained"))["clients"] == 1
        assert await tail.closed() == CloseCode.DRAINING
        async with raw(w.url, "huahuo.v1") as again:
            await again.authenticate(w.token(ROOT), client="tail")
            await operator.say(action="drain_node", node="web-1", undo=True, id="2")
            await operator.until("drained")


async def test_to_drain_a_node_that_is_down_is_refused_for_good_and_says_what_to_do() -> None:
    async with asked(gone="web-3") as w, raw(w.url, "huahuo.v1") as operator:
        await operator.authenticate(w.token(ROOT))
        await operator.say(action="drain_node", node="web-3", id="1")
        refused = await operator.until("error")
        assert refused["code"] == "conflict"
        assert "the node web-3 at http://127.0.0.1:1 can't be reached" in refused["details"]
        assert refused["details"].endswith("if it will not come back: `huahuo cluster remove web-3`")


@pytest.mark.parametrize("action", ["drain_node", "remove_node"])
async def test_a_name_that_no_node_has_is_answered_by_those_that_there_are(action: str) -> None:
    async with asked() as w, raw(w.url, "huahuo.v1") as operator:
        await operator.authenticate(w.token(ROOT))
        await operator.say(action=action, node="web-9", id="1")
        refused = await operator.until("error")
        assert (refused["code"], refused["details"]) == ("not_found", "the nodes are web-1, web-3")


async def test_newcomers_are_sent_to_all_nodes_that_take_clients_in_turns() -> None:
    async with node(OTHER, "http://web-3:8765") as (w, drain, _):
        await drain.set(undo=False)
        told = {await _turned_away(w, ALICE) for _ in range(2)}
        assert told == {f"this node is drained: go to {url}" for url in (OTHER, "http://web-3:8765")}


async def test_where_no_node_takes_clients_none_is_named() -> None:
    async with node() as (w, drain, _):
        await drain.set(undo=False)
        assert await _turned_away(w, ALICE) == "this node is drained"
