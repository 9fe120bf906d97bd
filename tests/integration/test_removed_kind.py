"""What a removed entity wrote is shown as it is stored, to administrators alone."""

from pathlib import Path

import pytest
from msgspec import Struct

from huahuo import Command, Entity, Event, Huahuo
from tests.support.drivers.http import client as http_client
from tests.support.drivers.rawclient import connected

pytestmark = pytest.mark.slow


class Planted(Event, type="tree_planted"):
    name: str


class Plant(Command, action="plant_tree", creates=True):
    name: str


class Tree(Struct, frozen=True):
    name: str = ""


def forest() -> Entity[Tree]:
    tree = Entity("tree", Tree)

    @tree.evolve(Planted)
    def planted(state: Tree, event: Planted) -> Tree:
        del state
        return Tree(event.name)

    @tree.decide(Plant)
    def plant(state: Tree, command: Plant, ctx: object) -> list[Planted]:
        del state, ctx
        return [Planted(command.name)]

    return tree


@pytest.fixture
async def without(tmp_path: Path) -> Huahuo:
    """An application without the entity that wrote `tree/1`, over the same directory. Not started."""
    data = tmp_path / "data"
    async with Huahuo(entities=[forest()], data=data, port=0) as app:
        await app.send("plant_tree", name="oak", as_user=42)
        await app.publish("sight/7", "tree_seen", {"height": 3})
    return Huahuo(data=data, port=0)


@pytest.mark.parametrize(("stream", "type_"), [("tree/1", "tree_planted"), ("sight/7", "tree_seen")])
async def test_an_administrator_subscribes_what_no_entity_of_today_wrote(
    without: Huahuo, stream: str, type_: str
) -> None:
    async with without as app, connected(app.url) as ws:
        await ws.authenticate(app.token(user_id=1, username="root", admin=True))
        await ws.say(action="subscribe", stream=stream, after="start")
        assert (await ws.until("events"))["events"][0]["type"] == type_


async def test_an_administrator_reads_it_as_a_page(without: Huahuo) -> None:
    async with without as app:
        token = app.token(user_id=1, username="root", admin=True)
        async with http_client(app.url, token) as http:
            page = (await http.get("/streams/tree/1")).json()
        assert [(event["seq"], event["name"]) for event in page["events"]] == [(1, "oak")]


async def test_nobody_else_reads_it(without: Huahuo) -> None:
    async with without as app, connected(app.url) as ws:
        await ws.authenticate(app.token(user_id=42, username="alice"))
        await ws.say(action="subscribe", stream="tree/1", after="start")
        assert (await ws.until("subscribed"))["outcome"] == "denied"
        async with http_client(app.url, app.token(user_id=42, username="alice")) as http:
            assert (await http.get("/streams/tree/1")).status_code == 403
