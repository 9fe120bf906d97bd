"""The snippets of docs/accounts.md and docs/entities.md run as they stand there."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from huahuo.testing.world import AppWorld
from huahuo.transport.client.model import ClientStopped, StreamDenied
from tests.support.drivers.http import client as http_client
from tests.support.drivers.rawclient import connected
from tests.support.drivers.snippets import run, snippet
from tests.support.worlds.everywhere import running

PAGE = "docs/accounts.md"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def page(*blocks: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        await run(snippet(PAGE, block), names)
    return names


def in_world(names: dict[str, Any], tmp_path: Path) -> AppWorld:
    return AppWorld(names["app"], tmp_path / "keys")


@pytest.fixture
def names() -> dict[str, Any]:
    return asyncio.run(page("authenticate", "authorize", "testing"))


def test_the_session_of_the_page_signs_in_and_the_locked_user_does_not(
    names: dict[str, Any], tmp_path: Path
) -> None:
    world = in_world(names, tmp_path)
    world.client_with("s-1")
    for token in ("s-2", "nobody"):
        with pytest.raises(ClientStopped):
            world.client_with(token)
    world.close()


def test_the_test_of_the_page_passes_and_a_member_who_leaves_reads_no_more(
    names: dict[str, Any], tmp_path: Path
) -> None:
    world = in_world(names, tmp_path)
    cast("Callable[[AppWorld], None]", names["test_alice_reads_her_room"])(world)
    alice = world.client_with("s-1")
    names["MEMBERS"]["room/1"].clear()
    world.rights_changed("room/1", user="alice@example.com")
    with pytest.raises(StreamDenied):
        alice.follow("room/1")
    world.close()


@pytest.mark.slow
async def test_a_page_with_a_session_cookie_gets_a_token_and_reads_its_stream() -> None:
    names = await page("cookie")
    app, api = names["app"], names["api"]
    async with running(app, "asgi", api) as url, http_client(url) as http:
        assert (await http.post("/live-token")).status_code == 401
        await http.post("/sign-in")
        token = (await http.post("/live-token")).json()["token"]
        async with connected(f"{url}/live") as ws:
            assert (await ws.authenticate(token))["user"]["user_id"] == "alice@example.com"
            await app.publish("user/alice@example.com", "parcel_seen", {"order_id": 7})
            assert (await ws.until("events"))["events"][0]["order_id"] == 7


ENTITIES = "docs/entities.md"


async def test_the_snippets_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUAHUO_PORT", "0")
    names: dict[str, Any] = {"__name__": "shop"}
    first = ("shop", "follower", "own_cursor", "inside")
    for name in (*first, "tests", "effects", "list", "rows", "job", "upcast"):
        await run(snippet(ENTITIES, name), names)
    assert names["seq"] == 1
    assert names["state"].item == "tea"
    assert [told["item"] for told in names["crm"]] == ["tea"]
    assert names["read_place"]() > 0
    names["database"].dispose()
    assert (names["job"].stream, names["job"].outcome) == ("job/1", "done")


async def test_the_test_of_the_page_passes_in_a_world_of_the_first_application(tmp_path: Path) -> None:
    names: dict[str, Any] = {"__name__": "shop"}
    for name in ("shop", "world"):
        await run(snippet(ENTITIES, name), names)

    def play() -> None:
        world = AppWorld(names["app"], tmp_path / "data")
        names["test_an_order_survives_a_crash"](world)
        world.close()

    await asyncio.to_thread(play)  # it has a loop of its own
