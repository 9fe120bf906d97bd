"""What is written wrong in `send` is refused in words that say what to write."""

from pathlib import Path
from typing import Any

import pytest

from huahuo import Command, Context, Entity, Event, Huahuo, Outcome, Principal, Refused
from huahuo.testing.world import AppWorld
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.drivers.http import client
from tests.support.worlds.orders import Order


class Opened(Event, type="lamp_opened"):
    """It is on."""


class Switch(Command, action="switch_lamp", creates=True):
    """What clients send."""


class Dim(Command, name="dim"):
    """What only the service sends."""

    percent: int = 0


def lamps() -> Entity[Order]:
    lamp = Entity("lamp", Order)

    @lamp.evolve
    def opened(state: Order, event: Opened) -> Order:
        del event
        return state

    @lamp.decide
    def switch(state: Order, command: Switch, ctx: Context) -> Outcome:
        del state, command, ctx
        return [Opened()]

    @lamp.decide
    def dim(state: Order, command: Dim, ctx: Context) -> Outcome:
        del state, command, ctx
        return [Opened()]

    return lamp


@pytest.mark.parametrize("as_user", [None, 42])
@pytest.mark.parametrize(
    ("command", "fields", "said"),
    [
        ("dim", {}, "'dim' is the name of Dim, which has no action: send Dim(…)"),
        (Dim, {}, "Dim is a class: write Dim(…)"),
        (Dim(5), {}, "lamp_id: say which lamp it is for"),
        (Dim(5), {"lamp": 1}, "lamp: with an object, write its fields in it; besides, only lamp_id="),
        (Switch(), {"seconds": 1}, "seconds: with an object, write its fields in it"),
        (Switch(), {"lamp_id": 1}, "lamp_id: there is no lamp 1: without lamp_id=, Switch(…) makes"),
    ],
)  # fmt: skip
def test_a_call_that_says_less_or_more_than_the_command_is_told_what_to_write(
    tmp_path: Path, as_user: int | None, command: Any, fields: dict[str, Any], said: str
) -> None:
    world = AppWorld(Huahuo(entities=[lamps()]), tmp_path / "data")
    with pytest.raises(Refused) as refused:
        world.send(command, as_user=as_user, **fields)
    assert said in str(refused.value)
    assert world.send(Switch())["lamp_id"] == 1, "nothing was done, and no number taken"
    assert world.send(Dim(5), lamp_id=1)["at"]["seq"] == 2
    world.close()


def test_a_client_is_told_which_decide_returned_one_event_in_place_of_a_list(tmp_path: Path) -> None:
    lamp = Entity("lamp", Order)
    lamp.evolve(Opened)(lambda state, event: state)

    @lamp.decide(Switch)
    def switch(state: Order, command: Switch, ctx: Context) -> Any:
        return Opened()

    world = AppWorld(Huahuo(entities=[lamp]), tmp_path)
    with pytest.raises(CommandError) as refused:
        world.client(42).send("switch_lamp")
    world.close()
    assert refused.value.code == "internal"
    told = ": switch, a handler of lamp.decide: it returns Opened: return [Opened(…)]"
    assert refused.value.details.endswith(told)
    assert str(Path(__file__)) not in refused.value.details


async def test_a_refusal_has_an_object_as_details_on_each_way_and_readers_know_the_id(tmp_path: Path) -> None:
    lamp = Entity("lamp", Order, key=str)
    lamp.evolve(Opened)(lambda state, event: state)
    left = {"left": 2, "rooms": ["a"]}

    @lamp.decide(Switch)
    def switch(state: Order, command: Switch, ctx: Context) -> Outcome:
        return Refused("full", "no room", left) if ctx.id == "full" else [Opened()]

    @lamp.readers
    def may_read(state: Order, who: Principal, key: str) -> bool:
        return key == f"of-{who.user_id}"

    app = Huahuo(entities=[lamp], data=tmp_path, port=0)
    async with app, client(app.url, app.token(42)) as http, Client(app.url, token=app.token(42)) as device:
        with pytest.raises(Refused) as inside:
            await app.send("switch_lamp", lamp_id="full")
        with pytest.raises(CommandError) as outside:
            await device.send("switch_lamp", lamp_id="full")
        answer = (await http.post("/commands/switch_lamp", json={"lamp_id": "full"})).json()
        assert inside.value.details == outside.value.details == answer["details"] == left
        for name in ("of-42", "of-43"):
            await app.send("switch_lamp", lamp_id=name)
        codes = [(await http.get(f"/streams/lamp/of-{user}")).status_code for user in (42, 43)]
        assert codes == [200, 403]
