"""A client that has seen more than this node of several: over HTTP, server-sent events and `/ds/`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.http import client, reader
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.worlds.people import ALICE
from tests.support.worlds.wire import PLACE, World, world

STREAM = "user/42"
TEXT = {"Content-Type": "text/plain"}


class Elsewhere:
    """What another node wrote: this one gets it when it asks, unless the ordered log is `away`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.away = False
        self.asked = 0
        self.world: World | None = None

    async def __call__(self, places: Sequence[tuple[str, int]]) -> bool:
        assert self.world is not None
        if all(seq <= self.world.log.head(stream).seq for stream, seq in places):
            return True
        self.asked += 1
        if not self.away and self.texts:
            await self.world.append(STREAM, *self.texts)
            self.texts.clear()
        return not self.away


@asynccontextmanager
async def node() -> AsyncIterator[tuple[World, Elsewhere, httpx.AsyncClient]]:
    """A node whose log has one event of the stream."""
    elsewhere = Elsewhere()
    async with world(catch_up=elsewhere) as w, client(f"http://127.0.0.1:{w.port}", w.token(ALICE)) as c:
        elsewhere.world = w
        await w.append(STREAM, "a")
        yield w, elsewhere, c


async def test_a_page_behind_what_another_node_showed_waits_for_it() -> None:
    async with node() as (_, elsewhere, c):
        elsewhere.texts = ["b", "c"]
        page = (await c.get(f"/streams/{STREAM}", params={"after": 2})).json()
        assert (page["outcome"], [event["text"] for event in page["events"]]) == ("resumed", ["c"])


async def test_a_page_is_never_a_reset_while_the_node_cannot_find_out() -> None:
    async with node() as (_, elsewhere, c):
        elsewhere.away = True
        page = await c.get(f"/streams/{STREAM}", params={"after": 2, "wait": 1})
        assert (page.status_code, page.json()["code"]) == (503, "unavailable")
        assert int(page.headers["retry-after"]) >= 1


async def test_a_page_is_a_reset_if_the_log_itself_is_shorter() -> None:
    async with node() as (_, elsewhere, c):
        page = (await c.get(f"/streams/{STREAM}", params={"after": 9})).json()
        assert page["outcome"] == "reset"
        assert elsewhere.asked == 1


async def test_a_reader_of_server_sent_events_waits_or_is_sent_elsewhere() -> None:
    async with node() as (w, elsewhere, c):
        elsewhere.texts = ["b", "c"]
        async with reader(c, STREAM, f"{w.log.log_id}:2", after=0) as events:
            assert await events.texts(1) == ["c"]
        elsewhere.away = True
        refused = await c.get(
            f"/streams/{STREAM}", params={"after": 9}, headers={"Accept": "text/event-stream"}
        )
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1


async def test_an_ack_of_what_another_node_showed_counts() -> None:
    async with node() as (_, elsewhere, c):
        elsewhere.texts = ["b"]
        said = {"client": "dev", "cursors": {STREAM: 2}}
        assert (await c.post("/acks", json=said)).status_code == 204
        assert (await c.post("/acks", json=said | {"cursors": {STREAM: 3}})).status_code == 400
        elsewhere.away = True
        assert (await c.post("/acks", json=said | {"cursors": {STREAM: 3}})).status_code == 503


async def test_an_offset_that_another_node_gave_is_not_taken_for_an_earlier_one() -> None:
    async with node() as (_, elsewhere, c):
        path = f"/ds/{STREAM}"
        elsewhere.texts = ["b", "c"]
        page = await c.get(path, params={"offset": f"{2:016d}"})
        assert [event["text"] for event in page.json()] == ["c"]
        elsewhere.away = True
        for live in ({}, {"live": "long-poll"}, {"live": "sse"}):
            refused = await c.get(path, params={"offset": f"{9:016d}", **live})
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1


async def test_a_stream_under_ds_is_not_missing_while_the_node_cannot_find_out() -> None:
    async with node() as (_, elsewhere, c):
        path = f"/ds/{STREAM}/answer"
        assert (await c.get(path)).status_code == 404
        elsewhere.away = True
        assert (await c.get(path)).status_code == 503
        assert (await c.post(path, headers=TEXT, content="x")).status_code == 503


@pytest.mark.parametrize("place", ["own", "worker"])
async def test_a_websocket_waits_or_is_sent_elsewhere_also_on_a_worker(place: str) -> None:
    token = PLACE.set(place)
    try:
        async with node() as (w, elsewhere, _):
            elsewhere.texts = ["b", "c"]
            resume = {"cursors": {STREAM: 2}, "log": w.log.log_id}
            async with raw(w.url, "huahuo.v1") as first:
                await first.authenticate(w.token(ALICE), resume=resume)
                assert await _texts(first, 1) == ["c"]
            elsewhere.away = True
            async with raw(w.url, "huahuo.v1") as second:
                resume["cursors"] = {STREAM: 9}
                await second.say(action="authenticate", token=w.token(ALICE), resume=resume)
                assert await second.closed() == CloseCode.DRAINING
                assert "reset" not in str(second.seen)
    finally:
        PLACE.reset(token)


async def _texts(client: RawClient, count: int) -> list[str]:
    while len(client.events(STREAM)) < count:
        await client.next()
    return [event["text"] for _, event in client.events(STREAM)]
