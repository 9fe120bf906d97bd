"""Lists that clients follow: their rows are the first ones of one commit, whatever happens in between."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from msgspec import Struct

from huahuo import (
    DefinitionError,
    Huahuo,
    Principal,
    Rows,
)
from huahuo.transport.protocol.incoming import Follow, Present, Unfollow, ViewAcks
from huahuo.transport.protocol.kinds import KINDS, name_of
from tests.support.drivers.http import client as http_client
from tests.support.drivers.rawclient import RawClient, connected
from tests.support.drivers.snippets import ROOT, run, snippet
from tests.support.worlds.lots import application, lots


class Page:
    """What a client makes of the messages of one view."""

    def __init__(self, ws: RawClient, *, acks: bool = True) -> None:
        self.ws = ws
        self.acks = acks
        self.following: dict[str, Any] = {}
        self.rows: list[list[Any]] = []

    async def follow(
        self, name: str = "lots", limit: int = 3, since: dict[str, Any] | None = None, **more: Any
    ) -> str:
        """Returns the outcome."""
        if since is not None:
            more["from"] = since
        if name:
            more["list"] = name
        await self.ws.say(action="follow", id="f", limit=limit, **more)
        self.following = await self.ws.until("following", id="f")
        if self.following["outcome"] != "denied":
            await self.changed()
        outcome: str = self.following["outcome"]
        return outcome

    async def changed(self) -> dict[str, Any]:
        """Apply the next change."""
        change = await self.ws.until("rows", view=self.following["view"])
        assert "more" not in change
        gone = [*change["drop"], *(row[0] for row in change["put"])]
        kept = [] if change.get("reset") else [row for row in self.rows if row[0] not in gone]
        self.rows = sorted([*kept, *change["put"]])[: self.following["limit"]]
        self.following["position"] = change["position"]
        if self.acks:
            await self.ws.say(action="ack", views={str(self.following["view"]): change["position"]})
        return change

    def since(self) -> dict[str, Any]:
        """Where it stands."""
        place = {name: self.following[name] for name in ("log", "position", "of")}
        if len(self.rows) == self.following["limit"]:
            place["bound"] = self.rows[-1][0]
        return place

    @property
    def prices(self) -> list[int]:
        return [row[1]["price"] for row in self.rows]


@pytest.fixture
def guests() -> set[str]:
    return set()


@pytest.fixture
async def app(tmp_path: Path, guests: set[str]) -> AsyncIterator[Huahuo]:
    app = application(tmp_path / "data", guests)
    async with app:
        yield app


@asynccontextmanager
async def signed_in(app: Huahuo, user_id: int = 42, name: str = "ann") -> AsyncIterator[RawClient]:
    async with connected(app.url) as ws:
        await ws.authenticate(app.token(user_id, name))
        yield ws


async def offer(app: Huahuo, lot: int, price: int, category: str = "cars") -> None:
    await app.send("offer_lot", lot_id=f"{lot:04d}", category=category, price=price)


CARS = {"category": "cars"}


async def test_a_list_comes_whole_and_then_each_change_of_its_first_rows(app: Huahuo) -> None:
    for lot in (1, 2, 3, 4):
        await offer(app, lot, lot * 10)
    async with signed_in(app) as ws:
        page = Page(ws)
        assert await page.follow(fields=CARS) == "fresh"
        assert page.prices == [10, 20, 30]
        await app.send("close_lot", lot_id="0002")
        await page.changed()
        assert page.prices == [10, 30, 40]
        await offer(app, 1, 11)
        assert (await page.changed())["put"] == [["0001", {"price": 11}]]
        await offer(app, 1, 12, "vans")
        await offer(app, 9, 90)
        await offer(app, 3, 31)
        await page.changed()
        assert page.prices == [11, 31, 40]
        assert not [one for one in await ws.quiet() if one["type"] == "rows"]


async def test_who_comes_back_gets_only_what_changed(app: Huahuo) -> None:
    for lot in (1, 2, 3, 4, 5):
        await offer(app, lot, lot * 10)
    async with signed_in(app) as ws:
        page = Page(ws)
        await page.follow(fields=CARS)
    await app.send("close_lot", lot_id="0001")
    await offer(app, 2, 21)
    await app.stop()
    async with app, signed_in(app) as ws:
        page.ws = ws
        assert await page.follow(fields=CARS, since=page.since()) == "resumed"
        assert page.prices == [21, 30, 40]
        [rows] = [one for one in ws.seen if one["type"] == "rows"]
        assert ([row[0] for row in rows["put"]], rows["drop"]) == (["0002", "0004"], ["0001"])


@pytest.mark.parametrize("wrong", [{"log": "other"}, {"of": "other"}, {"position": 1 << 40}, {"position": 0}])
async def test_who_comes_back_from_elsewhere_gets_the_list_anew(app: Huahuo, wrong: dict[str, Any]) -> None:
    await offer(app, 1, 10)
    async with signed_in(app) as ws:
        page = Page(ws)
        await page.follow(fields=CARS)
        assert await page.follow(fields=CARS, since=page.since() | wrong) == "reset"
        assert page.prices == [10]


async def test_another_limit_is_another_view_that_ends_the_one_before(app: Huahuo) -> None:
    for lot in (1, 2, 3, 4, 5):
        await offer(app, lot, lot * 10)
    async with signed_in(app) as ws:
        page = Page(ws)
        await page.follow(fields=CARS, limit=2)
        before = page.following["view"]
        assert await page.follow("", view=before, limit=4) == "resumed"
        assert page.following["was"] == before
        assert page.prices == [10, 20, 30, 40]
        assert await page.follow("", view=page.following["view"], limit=1) == "resumed"
        await offer(app, 1, 11)
        await page.changed()
        assert page.prices == [11]
        assert [one["view"] for one in await ws.quiet() if one["type"] == "rows"] == []


async def test_several_parts_are_merged_by_key(app: Huahuo) -> None:
    await offer(app, 3, 30)
    await offer(app, 1, 10, "vans")
    async with signed_in(app) as ws:
        page = Page(ws)
        await page.follow(fields={"category": "vans+cars"})
        assert page.rows == [["0001", {"price": 10}, "vans"], ["0003", {"price": 30}, "cars"]]


async def test_a_list_may_begin_at_a_key(app: Huahuo) -> None:
    for lot in (1, 2, 3):
        await offer(app, lot, lot * 10)
    async with signed_in(app) as ws:
        page = Page(ws)
        await page.follow(fields={"category": "cars", "at_least": "0002"})
        assert page.prices == [20, 30]


async def test_equal_lists_are_one_view_for_all_clients(app: Huahuo) -> None:
    await offer(app, 1, 10)
    async with signed_in(app) as one, signed_in(app, 43, "bob") as two:
        first, second, third = Page(one), Page(two), Page(two)
        await first.follow(fields=CARS)
        await second.follow(fields=CARS)
        await third.follow(fields=CARS, limit=5)
        assert first.following["view"] == second.following["view"] != third.following["view"]


async def test_a_client_that_does_not_ack_gets_four_changes_and_later_the_newest(app: Huahuo) -> None:
    await offer(app, 1, 1)
    async with signed_in(app) as ws:
        page = Page(ws, acks=False)
        await page.follow(fields=CARS)
        for price in range(2, 20):
            await offer(app, 1, price)
            if price <= 4:
                await page.changed()
        assert [one for one in await ws.quiet() if one["type"] == "rows"] == []
        page.acks = True
        view = str(page.following["view"])
        await ws.say(action="ack", views={view: page.following["position"]})
        await page.changed()
        assert page.prices == [19]


async def test_who_unfollows_hears_no_more(app: Huahuo) -> None:
    async with signed_in(app) as ws:
        page = Page(ws)
        await page.follow(fields=CARS)
        await ws.say(action="unfollow", id="u", view=page.following["view"])
        await ws.until("unfollowed", id="u", view=page.following["view"])
        await offer(app, 1, 10)
        assert [one for one in await ws.quiet() if one["type"] == "rows"] == []
        await ws.say(action="unfollow", id="again", view=page.following["view"])
        await ws.until("unfollowed", id="again")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"list": "unknown"}, "not_found"),
        ({"view": 77}, "not_found"),
        ({"list": "lots", "fields": {"category": "cars", "colour": "red"}}, "invalid_field"),
        ({"list": "lots"}, "invalid_field"),
        ({"list": "newest", "limit": 1001}, "invalid_field"),
        ({"list": "newest", "limit": 0}, "invalid_field"),
        ({"list": "newest", "from": "yesterday"}, "invalid_field"),
        (
            {"list": "newest", "from": {"log": "a", "position": 1, "of": "b", "bound": "系" * 400}},
            "invalid_field",
        ),
        ({"list": "newest", "from": {"log": "a", "position": -1, "of": "b"}}, "invalid_field"),
        ({"list": "broken"}, "internal"),
    ],
)
async def test_what_cannot_be_followed_is_a_typed_error_and_closes_nothing(
    app: Huahuo, asked: dict[str, Any], code: str
) -> None:
    async with signed_in(app) as ws:
        await ws.say(action="follow", id="f", **asked)
        error = await ws.until("error", id="f")
        assert error["code"] == code
        assert "canary" not in str(error)
        assert await Page(ws).follow("newest") == "fresh"


async def test_a_bound_in_the_wrong_form_for_the_list_is_a_typed_error(app: Huahuo) -> None:
    async with signed_in(app) as ws:
        page = Page(ws)
        await page.follow("newest")
        await ws.say(action="follow", id="g", list="newest", **{"from": page.since() | {"bound": ["a", "b"]}})
        assert (await ws.until("error", id="g"))["code"] == "invalid_field"


async def test_lists_and_streams_of_a_connection_have_one_bound(tmp_path: Path) -> None:
    app = application(tmp_path / "data", set(), subscriptions_max=3)
    async with app, signed_in(app) as ws:
        await Page(ws).follow("newest")
        await ws.say(action="follow", id="g", list="newest", limit=7)
        assert (await ws.until("error", id="g"))["code"] == "too_large"


async def test_a_list_that_is_not_for_the_user_is_denied(app: Huahuo) -> None:
    async with signed_in(app) as ws:
        page = Page(ws)
        assert await page.follow("invited") == "denied"
        assert "view" not in page.following


async def test_a_right_that_ends_ends_the_list(app: Huahuo, guests: set[str]) -> None:
    guests.add("ann")
    await offer(app, 1, 10)
    async with signed_in(app) as ws:
        page = Page(ws)
        assert await page.follow("invited") == "fresh"
        await app.send("invite_guest", room_id="1", guest="ann")
        await ws.say(action="subscribe", id="s", stream="room/1")
        await ws.until("subscribed", stream="room/1", outcome="fresh")
        guests.clear()
        await app.send("invite_guest", room_id="1", guest="bob")
        ended = await ws.until("unfollowed", view=page.following["view"])
        assert ended["reason"] == "forbidden"
        await offer(app, 1, 11)
        assert [one for one in await ws.quiet() if one["type"] == "rows"] == []


async def test_another_answer_of_the_list_begins_it_anew(app: Huahuo, guests: set[str]) -> None:
    guests.add("ann")
    await offer(app, 1, 10)
    await offer(app, 2, 20, "vans")
    async with signed_in(app) as ws:
        page = Page(ws)
        await page.follow("invited")
        before = page.following["view"]
        guests.add("everything")
        await ws.say(action="authenticate", token=app.token(42, "ann"))
        page.following = await ws.until("following", was=before, outcome="reset")
        assert "id" not in page.following
        await page.changed()
        assert page.prices == [20]


async def test_the_lists_of_workers_are_those_of_their_owner(tmp_path: Path) -> None:
    app = application(tmp_path / "data", set(), workers=2)
    async with app, signed_in(app) as ws:
        await offer(app, 1, 10)
        page = Page(ws)
        await page.follow(fields=CARS)
        await offer(app, 2, 20)
        await page.changed()
        assert page.prices == [10, 20]
        assert await Page(ws).follow("invited") == "denied"


def test_a_field_that_each_list_has_cannot_be_a_list_s_own(tmp_path: Path) -> None:
    class Limited(Struct, frozen=True):
        limit: int

    app = Huahuo(entities=[lots()])
    with pytest.raises(DefinitionError, match="a field may not be called 'limit'"):

        @app.list("limited")
        def limited(who: Principal, fields: Limited) -> Rows:
            return Rows("lots")


async def test_a_command_s_reply_comes_before_its_rows_and_reached_comes_after_them(app: Huahuo) -> None:
    async with signed_in(app) as ws:
        page = Page(ws)
        await page.follow(fields=CARS)
        for lot in range(1, 4):
            ws.seen.clear()
            await ws.say(action="offer_lot", id=f"o{lot}", lot_id=f"{lot:04d}", category="cars", price=lot)
            reached = await ws.until("reached")
            assert [
                one["type"] for one in ws.seen if one["type"] in ("lot", "rows", "reached", "success")
            ] == [
                "success",
                "rows",
                "reached",
            ]
            reply = next(one for one in ws.seen if one["type"] == "success")
            assert reply["at"]["position"] == reached["position"]
            assert "but" not in reached
            view = str(page.following["view"])
            await ws.say(action="ack", views={view: reached["position"]})


async def test_what_changes_no_list_is_reached_too(app: Huahuo) -> None:
    async with signed_in(app) as ws:
        page = Page(ws)
        await page.follow(fields=CARS)
        await ws.say(action="offer_lot", id="o", lot_id="0001", category="vans", price=1)
        reached = await ws.until("reached")
        [reply] = [one for one in ws.seen if one["type"] == "success"]
        assert reached["position"] == reply["at"]["position"]
        assert not [one for one in ws.seen if one["type"] == "rows" and one["put"]]


async def test_a_list_that_waits_for_acks_is_named_in_reached(app: Huahuo) -> None:
    async with signed_in(app) as ws:
        page = Page(ws, acks=False)
        await page.follow(fields=CARS)
        for price in range(1, 8):
            await ws.say(action="offer_lot", id=f"p{price}", lot_id="0001", category="cars", price=price)
            reached = await ws.until("reached")
        assert reached["but"] == [page.following["view"]]


PAGE = str(ROOT / "docs" / "live-lists.md")


async def test_the_application_of_the_page_has_a_live_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUAHUO_PORT", "0")
    names: dict[str, Any] = {"__name__": "auctions"}
    await run(snippet(PAGE, "auction"), names)
    await run(snippet(PAGE, "view"), names)
    app = names["app"]
    async with app, signed_in(app) as ws:
        page = Page(ws)
        await page.follow("open_auctions", fields=CARS)
        made = await app.send("open_auction", category="cars", title="Volvo", ends_ms=1790003500000)
        await page.changed()
        assert [row[1]["title"] for row in page.rows] == ["Volvo"]
        await app.send("end_auction", auction_id=made["auction_id"])
        await page.changed()
        assert page.rows == []
        await ws.say(action="follow", id="s", state="auction/1")
        assert (await ws.until("state"))["state"]["is_open"] is False
        assert await page.follow("open_auctions", fields={"category": "secret"}) == "denied"


def test_the_messages_on_the_page_have_the_fields_that_the_service_knows() -> None:
    known = {name_of(kind): kind for kind in KINDS}
    asked: dict[str, Any] = {"follow": Follow, "unfollow": Unfollow, "present": Present, "ack": ViewAcks}
    decoder, seen = json.JSONDecoder(), set[str]()
    for text in re.findall(r"```json\n(.*?)```", Path(PAGE).read_text(encoding="utf-8"), re.DOTALL):
        rest = text.strip()
        while rest:
            message, end = decoder.raw_decode(rest)
            rest = rest[end:].strip()
            if "list" in message and "rows" in message:
                continue  # a page over HTTP
            tag = message.get("type") or message["action"]
            struct: Any = known.get(tag) or asked[tag]
            names = {field.encode_name for field in msgspec.structs.fields(struct)}
            assert message.keys() - {"type", "action", "id"} <= names, tag
            seen.add(tag)
    assert seen == {
        "follow",
        "following",
        "rows",
        "ack",
        "unfollow",
        "unfollowed",
        "reached",
        "state",
        "present",
    }


class Sent(NamedTuple):
    """A server-sent event."""

    name: str
    data: Any
    id: str


@asynccontextmanager
async def lines_of(http: httpx.AsyncClient, url: str, **headers: str) -> AsyncIterator[AsyncIterator[Sent]]:
    """The events of a reader."""

    async def events(answer: httpx.Response) -> AsyncIterator[Sent]:
        event: dict[str, str] = {}
        async for line in answer.aiter_lines():
            name, colon, value = line.partition(": ")
            if name and colon:
                event[name] = value
            elif not line and event:
                yield Sent(event.get("event", ""), json.loads(event.get("data", "null")), event.get("id", ""))
                event = {}

    async with http.stream("GET", url, headers={"Accept": "text/event-stream"} | headers) as answer:
        assert answer.status_code == 200
        yield events(answer)


async def next_rows(events: AsyncIterator[Sent]) -> Sent:
    async for one in events:
        if one.name == "rows":
            return one
    raise AssertionError("it ended")


async def test_a_list_is_read_in_pages_over_http(app: Huahuo) -> None:
    for lot in (1, 2, 3):
        await offer(app, lot, lot * 10)
    async with http_client(app.url, app.token(42, "ann")) as http:
        first = (await http.get("/lists/lots?category=cars&limit=2")).json()
        assert [row[0] for row in first["rows"]] == ["0001", "0002"]
        assert (first["list"], first["position"] >= 3) == ("lots", True)
        rest = (await http.get("/lists/lots", params=CARS | {"limit": 2, "after": first["next"]})).json()
        assert (rest["rows"], rest["next"]) == ([["0003", {"price": 30}]], None)
        newest = (await http.get("/lists/newest?limit=2")).json()
        assert [row[1]["price"] for row in newest["rows"]] == [30, 20]
        rest = (await http.get("/lists/newest", params={"limit": 2, "after": newest["next"]})).json()
        assert [row[1]["price"] for row in rest["rows"]] == [10]
        both = (await http.get("/lists/lots?category=vans%2Bcars&limit=1")).json()
        assert both["rows"] == [["0001", {"price": 10}, "cars"]]
        rest = (await http.get("/lists/lots", params={"category": "vans+cars", "after": both["next"]})).json()
        assert len(rest["rows"]) == 2


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/lists/unknown", "not_found"),
        ("/lists/lots", "invalid_field"),
        ("/lists/lots?category=cars&colour=red", "invalid_field"),
        ("/lists/lots?category=cars&limit=1001", "invalid_field"),
        ("/lists/lots?category=cars&after=x", "invalid_field"),
        ("/lists/lots?category=cars&wait=1", "invalid_field"),
        ("/lists/invited", "forbidden"),
        ("/lists/broken", "internal"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_list_that_cannot_be_read_over_http_is_a_problem(
    app: Huahuo, path: str, code: str, accept: str
) -> None:
    async with http_client(app.url, app.token(42, "ann")) as http:
        answer = await http.get(path, headers={"Accept": accept})
        assert (answer.json()["code"], answer.status_code >= 400) == (code, True)
        assert "canary" not in answer.text


async def test_a_reader_of_events_comes_back_to_what_changed(app: Huahuo) -> None:
    for lot in (1, 2, 3):
        await offer(app, lot, lot * 10)
    async with http_client(app.url, app.token(42, "ann")) as http:
        async with lines_of(http, "/lists/lots?category=cars&limit=2") as events:
            first = await next_rows(events)
            assert [row[0] for row in first.data["put"]] == ["0001", "0002"]
            for price in range(11, 20):
                await offer(app, 1, price)
                changed = await next_rows(events)
                assert changed.data["put"] == [["0001", {"price": price}]]
        await app.send("close_lot", lot_id="0001")
        headers = {"Last-Event-ID": changed.id}
        for more, sent in (("", headers), (f"&after={changed.id}", {})):
            async with lines_of(http, f"/lists/lots?category=cars&limit=2{more}", **sent) as events:
                back = await next_rows(events)
                assert "reset" not in back.data
                assert (back.data["drop"], [row[0] for row in back.data["put"]]) == (["0001"], ["0003"])


async def test_the_lists_that_a_page_begins_with_do_not_count_against_the_rate(tmp_path: Path) -> None:
    app = application(tmp_path / "data", set(), messages_per_s=1)
    async with app, signed_in(app) as ws:
        for limit in range(1, 21):
            await ws.say(action="follow", id=f"f{limit}", list="newest", limit=limit)
        for limit in range(1, 21):
            await ws.until("following", id=f"f{limit}")
        assert not [one for one in ws.seen if one["type"] == "error"]
