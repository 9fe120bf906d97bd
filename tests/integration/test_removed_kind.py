"""What a removed entity wrote is shown as it is stored, to administrators alone."""

from pathlib import Path
from typing import Any

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
        return Tree(event.name)

    @tree.decide(Plant)
    def plant(state: Tree, command: Plant, ctx: object) -> list[Planted]:
        return [Planted(command.name)]

    return tree


async def plant(app: Huahuo, name: str, command_id: str) -> dict[str, Any]:
    """The answer to `plant_tree` of the user 42, over a WebSocket."""
    async with connected(app.url) as ws:
        await ws.authenticate(app.token(user_id=42, username="alice"), client="device")
        await ws.say(action="plant_tree", id=command_id, name=name)
        while (answer := await ws.next()).get("id") != command_id:
            pass
        return answer


@pytest.mark.parametrize("over_http", [False, True], ids=["WebSocket", "HTTP"])
async def test_a_command_that_was_executed_before_its_action_was_removed_gets_its_first_answer(
    tmp_path: Path, over_http: bool
) -> None:
    async def sent(app: Huahuo, name: str, command_id: str) -> dict[str, Any]:
        if not over_http:
            return await plant(app, name, command_id)
        headers = {"Idempotency-Key": command_id}
        async with http_client(app.url, app.token(user_id=42, username="alice")) as http:
            answer: dict[str, Any] = (
                await http.post("/commands/plant_tree", json={"name": name}, headers=headers)
            ).json()
            return answer

    data = tmp_path / "data"
    async with Huahuo(entities=[forest()], data=data, port=0) as app:
        first = await sent(app, "oak", "c1")
    async with Huahuo(data=data, port=0) as app:
        again = await sent(app, "oak", "c1")
        assert (again["tree_id"], again["at"], again["duplicate"]) == (first["tree_id"], first["at"], True)
        assert (await sent(app, "elm", "c1"))["code"] == "invalid_field"
        assert (await sent(app, "oak", "c2"))["code"] == "unknown_action"


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
