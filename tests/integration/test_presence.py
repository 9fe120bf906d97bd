"""Presence: who follows a stream's presence now, over workers, and nobody who is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from huahuo import Command, Context, Entity, Event, Huahuo, Outcome, Principal
from tests.support.drivers.rawclient import RawClient, connected


class Closed(Event, type="lounge_closed", rights=True): ...


class Opened(Event, type="lounge_opened"): ...


class Lounge(Struct, frozen=True):
    closed: bool = False


class Open(Command, action="open_lounge", creates=True, open=True): ...


class Close(Command, action="close_lounge", open=True): ...


def lounges() -> Entity[Lounge]:
    lounge = Entity("lounge", Lounge, key=str)

    @lounge.evolve
    def closed(state: Lounge, event: Closed) -> Lounge:
        return Lounge(closed=True)

    @lounge.evolve
    def opened(state: Lounge, event: Opened) -> Lounge:
        return Lounge()

    @lounge.decide
    def open_it(state: Lounge, command: Open, ctx: Context) -> Outcome:
        return [Opened()]

    @lounge.decide
    def close(state: Lounge, command: Close, ctx: Context) -> Outcome:
        return [Closed()]

    @lounge.readers
    def may_read(state: Lounge, who: Principal) -> bool:
        return not state.closed

    return lounge


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
async def app(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Huahuo]:
    async with Huahuo(entities=[lounges()], data=tmp_path / "data", port=0, workers=request.param) as app:
        await app.send("open_lounge", lounge_id="1")
        yield app


class Member:
    """A client in a room, and whom it sees."""

    def __init__(self, ws: RawClient, session: str) -> None:
        self.ws = ws
        self.session = session
        self.view = 0
        self.seen: dict[str, Any] = {}

    async def enter(self, data: Any = None, *, count: bool = False) -> None:
        await self.ws.say(action="follow", id="p", presence="lounge/1", data=data, count=count)
        following = await self.ws.until("following", id="p")
        assert following["outcome"] == "fresh"
        self.view = following["view"]

    async def hear(self) -> None:
        rows = await self.ws.until("rows", view=self.view)
        self.seen = {
            key: row for key, row in self.seen.items() if key not in rows["drop"] and not rows.get("reset")
        } | dict(rows["put"])
        await self.ws.say(action="ack", views={str(self.view): rows["position"]})

    async def sees(self, *who: tuple[str, Any]) -> None:
        wanted = sorted(who, key=str)
        while sorted(self.others, key=str) != wanted:
            await self.hear()

    @property
    def others(self) -> list[tuple[str, Any]]:
        return [(row["user"]["username"], row["data"]) for row in self.seen.values()]


@asynccontextmanager
async def member(app: Huahuo, name: str, data: Any = None) -> AsyncIterator[Member]:
    async with connected(app.url) as ws:
        signed_in = await ws.authenticate(app.token(len(name), name))
        one = Member(ws, signed_in["session"])
        if data is not None:
            await one.enter(data)
        yield one


async def test_all_who_are_there_see_one_another_and_what_they_do(app: Huahuo) -> None:
    async with member(app, "ann", 1) as ann:
        await ann.sees(("ann", 1))
        assert ann.session in ann.seen
        async with member(app, "bobby", 2) as bob:
            for one in (ann, bob):
                await one.sees(("ann", 1), ("bobby", 2))
            await bob.ws.say(action="present", view=bob.view, data={"typing": True})
            for one in (ann, bob):
                await one.sees(("ann", 1), ("bobby", {"typing": True}))
        async with asyncio.timeout(2):
            await ann.sees(("ann", 1))


async def test_who_unfollows_is_gone_and_sees_nobody(app: Huahuo) -> None:
    async with member(app, "ann", 1) as ann, member(app, "bobby", 2) as bob:
        await ann.sees(("ann", 1), ("bobby", 2))
        await bob.ws.say(action="unfollow", id="u", view=bob.view)
        await bob.ws.until("unfollowed", id="u")
        await ann.sees(("ann", 1))


async def test_who_counts_is_there_too_and_gets_the_number(app: Huahuo) -> None:
    async with member(app, "ann") as ann, member(app, "bobby", 2) as bob:
        await ann.enter(1, count=True)
        while (await ann.ws.until("rows", view=ann.view))["count"] != 2:
            pass
        await bob.sees(("ann", 1), ("bobby", 2))


async def test_a_right_that_ends_ends_the_presence(app: Huahuo) -> None:
    async with member(app, "ann", 1) as ann:
        await ann.sees(("ann", 1))
        await app.send("close_lounge", lounge_id="1")
        await app.rights_changed("lounge/1")
        assert (await ann.ws.until("unfollowed", view=ann.view))["reason"] == "forbidden"
        await ann.ws.say(action="follow", id="q", presence="lounge/1")
        assert (await ann.ws.until("following", id="q"))["outcome"] == "denied"


async def test_data_of_more_than_a_kibibyte_is_an_error_that_closes_nothing(app: Huahuo) -> None:
    async with member(app, "ann") as ann:
        await ann.ws.say(action="follow", id="p", presence="lounge/1", data="x" * 1024)
        assert (await ann.ws.until("error", id="p"))["code"] == "invalid_field"
        await ann.ws.say(action="present", id="n", view=77, data=1)
        assert (await ann.ws.until("error", id="n"))["code"] == "not_found"
        await ann.enter("x" * 1022)
        await ann.sees(("ann", "x" * 1022))
        await ann.ws.say(action="present", id="l", view=ann.view, data="x" * 2000)
        assert (await ann.ws.until("error", id="l"))["code"] == "invalid_field"
