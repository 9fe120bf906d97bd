"""An application's own events and commands: the same from asyncio, from threads and from admins."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from huahuo import (
    Command,
    Context,
    Decision,
    Effect,
    EffectRun,
    Entity,
    Event,
    Huahuo,
    HuahuoError,
    NotRunning,
    Outcome,
    Principal,
    Refused,
    Service,
)
from huahuo.at import At
from huahuo.embedding import calls
from huahuo.testing.world import AppWorld
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.drivers.http import client
from tests.support.drivers.http import client as http_client
from tests.support.patience import WITHIN_S
from tests.support.worlds.orders import Expire, Order, orders

ALLOWED = ["user/42", "user/alice@x", "group/ops", "system", "parcel/7"]
REFUSED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "an entity's stream": ("order/1", "seen", {}),
    "an internal stream": ("effect/order/1", "seen", {}),
    "the service's own": ("auth", "seen", {}),
    "a reserved kind": ("mailbox/1", "seen", {}),
    "the whole log": ("log", "seen", {}),
    "no key": ("parcel/", "seen", {}),
    "a type of an entity": ("user/42", "order_placed", {}),
    "a type of the protocol": ("user/42", "snapshot", {}),
    "a field of the log": ("user/42", "seen", {"seq": 1}),
    "no JSON": ("user/42", "seen", {"n": float("nan")}),
}


ROOT = Principal(1, "root", is_admin=True)


class Sent(Event, type="parcel_sent"): ...


class Parcel(Struct, frozen=True): ...


class Send(Command, action="send_parcel", creates=True): ...


class Tell(Effect): ...


def letters() -> Entity[Parcel]:
    """An entity whose command asks for an effect; each test writes what it does."""
    letter = Entity("letter", Parcel)

    @letter.evolve
    def sent(state: Parcel, event: Sent) -> Parcel:
        return state

    @letter.decide
    def send(state: Parcel, command: Send, ctx: Context) -> Outcome:
        return Decision([Sent()], effects=[Tell()])

    return letter


@pytest.fixture
def world(tmp_path: Path) -> Iterator[AppWorld]:
    world = AppWorld(Huahuo(entities=[orders()]), tmp_path / "data")
    yield world
    world.close()


def test_an_application_publishes_on_its_own_streams(world: AppWorld) -> None:
    for stream in ALLOWED:
        assert world.publish(stream, "parcel_seen", {"order_id": 7}).stream == stream


@pytest.mark.parametrize("what", REFUSED)
def test_other_streams_types_and_fields_are_refused(what: str, world: AppWorld) -> None:
    stream, type_, fields = REFUSED[what]
    with pytest.raises(Refused, match="invalid_field"):
        world.publish(stream, type_, fields)
    assert world.running.log.position == 0


ROWS: dict[str, Any] = {
    "no fields": ("user/42", "seen"),
    "too many": ("user/42", "seen", {}, 1),
    "a text": "user/42",
    "nothing": None,
    "fields that are none": ("user/42", "seen", None),
}


@pytest.mark.parametrize("what", ROWS)
def test_a_row_that_is_no_stream_type_and_fields_is_refused_with_its_place(
    what: str, world: AppWorld
) -> None:
    rows: list[Any] = [("user/42", "seen", {"n": 1}), ROWS[what]]
    for given in (rows, iter(rows)):
        with pytest.raises(Refused) as caught:
            world.run(calls.publish_many(world.running, given))
        assert caught.value.code == "invalid_field"
        none = what == "fields that are none"
        expected = "fields: must be a mapping" if none else "events[1]: write (stream, type, fields)"
        assert caught.value.details.startswith(expected)
    assert world.running.log.position == 0


def test_an_admin_publishes_several_events_in_one_commit_and_a_user_none(world: AppWorld) -> None:
    root, alice = world.client(1, admin=True), world.client(42)
    events: list[dict[str, Any]] = [
        {"stream": "user/42", "type": "parcel_seen", "fields": {"order_id": 7}},
        {"stream": "group/ops", "type": "parcel_seen"},
    ]
    assert root.send("publish", events=events)["at"] == {"stream": "group/ops", "seq": 1, "position": 2}
    with pytest.raises(CommandError, match="invalid_field"):
        root.send("publish", events=[*events, {"stream": "order/1", "type": "x"}])
    with pytest.raises(CommandError, match="invalid_field"):
        root.send("publish", events=[{"stream": "system", "type": "x"}] * 1_001)
    with pytest.raises(CommandError, match="forbidden"):
        alice.send("publish", stream="user/42", type="parcel_seen")
    assert world.running.log.position == 2


def test_a_command_is_sent_as_a_user_or_as_the_service(world: AppWorld) -> None:
    assert world.send("place_order", item="tea", as_user=42)["order_id"] == 1
    with pytest.raises(Refused, match="not_found"):
        world.send("give_order", order_id=1, to=7, as_user=7)
    assert world.send("give_order", order_id=1, to=7)["at"]["seq"] == 2
    assert world.send(Expire(), order_id=1) == {"type": "success", "order_id": 1}
    assert world.state("order", 1) == (Order(7, "tea", 0, "placed"), 2)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"order_id": "1"}, "no order can have the id '1'"),
        ({"order_id": 0}, "no order can have the id 0"),
        ({}, "say which order it is for"),
        ({"order_id": 1, "percent": 5}, "percent: with an object"),
    ],
)
def test_a_command_as_an_object_needs_an_id_that_an_order_can_have_and_nothing_else(
    world: AppWorld, fields: dict[str, Any], why: str
) -> None:
    world.send("place_order", item="tea", as_user=42)
    with pytest.raises(Refused, match=why):
        world.send(Expire(), **fields)


def test_a_command_id_of_the_application_has_one_effect(world: AppWorld) -> None:
    first = world.send("place_order", item="tea", as_user=42, command_id="a")
    assert world.send("place_order", item="tea", as_user=42, command_id="a") == first | {"duplicate": True}
    assert world.send("report_order", order_id=1, percent=5, command_id="b")["at"]["seq"] == 2
    assert world.send("report_order", order_id=1, percent=5, command_id="b")["duplicate"] is True


WORDS: dict[str, tuple[str, dict[str, Any]]] = {
    "a field of another type": ("place_order", {"item": 7, "as_user": 42}),
    "an action of administrators": ("publish", {"stream": "system", "type": "x", "as_user": 42}),
    "an id that is no text": ("place_order", {"item": "tea", "as_user": 42, "command_id": 7}),
    "an empty id": ("place_order", {"item": "tea", "command_id": ""}),
    "an id that the log cannot hold": ("place_order", {"item": "tea", "command_id": "x" * 256}),
    "an id that was used": ("place_order", {"item": "tea", "as_user": 42, "command_id": "a"}),
    "a field that publish has not": ("publish", {"stream": "order/1", "type": "x", "as_user": ROOT}),
}


@pytest.mark.parametrize("what", WORDS)
def test_a_command_that_is_refused_says_so_in_english(what: str, world: AppWorld) -> None:
    world.send("place_order", item="coffee", as_user=42, command_id="a")
    action, fields = WORDS[what]
    with pytest.raises(Refused) as caught:
        world.send(action, **fields)
    assert caught.value.code != "internal"
    assert caught.value.message
    assert str(caught.value).isascii()


async def test_a_program_follows_a_stream_and_learns_what_a_client_has_seen(tmp_path: Path) -> None:
    app = Huahuo(entities=[orders()], data=tmp_path / "data", port=0)
    with pytest.raises(NotRunning):
        await app.publish("system", "x")
    async with app:
        at = await app.publish_many([("user/42", "a", {}), ("user/42", "b", {"n": 1})])
        assert at == At("user/42", 2, 2)
        events = app.follow("user/42", after=1)
        event = await anext(events)
        assert (event["type"], event["n"], event["stream"], event["seq"]) == ("b", 1, "user/42", 2)
        await events.aclose()
        assert not await app.seen("user/42", 2, client="dev-7", timeout_s=0.01)
    async with app:
        assert (await app.state("order", 1))[1] == 0


def test_an_application_hears_at_once_what_a_client_has_seen(world: AppWorld) -> None:
    alice = world.client(42)
    alice.follow("user/42")

    async def told() -> bool:
        seen = asyncio.ensure_future(calls.seen(world.running, "user/42", 1, client="test-42"))
        await asyncio.sleep(5)
        await calls.publish_many(world.running, [("user/42", "parcel_seen", {})])
        return await seen

    assert world.run(told())
    world.advance(seconds=5)
    assert world.run(calls.seen(world.running, "user/42", 1, client="test-42", timeout_s=0.01))
    assert not world.run(calls.seen(world.running, "user/42", 2, client="test-42", timeout_s=60))


async def test_what_a_client_had_seen_before_the_start_is_known_without_waiting(tmp_path: Path) -> None:
    app = Huahuo(data=tmp_path / "data", port=0)
    async with app:
        await app.publish("user/42", "a")
        async with http_client(app.url, app.token(42)) as http:
            acked = await http.post("/acks", json={"client": "dev-7", "cursors": {"user/42": 1}})
            assert acked.status_code == HTTPStatus.NO_CONTENT
    async with app:
        assert await app.seen("user/42", 1, client="dev-7", timeout_s=0)
        assert not await app.seen("user/42", 2, client="dev-7", timeout_s=0)


@pytest.mark.parametrize("stream", ["", "user", "order/x", "Order/1", "!!", "user/a b", "chat/é"])
async def test_to_follow_a_stream_that_cannot_exist_is_refused(tmp_path: Path, stream: str) -> None:
    async with Huahuo(entities=[orders()], data=tmp_path, port=0) as app:
        with pytest.raises(Refused, match="no stream can have the name"):
            await anext(app.follow(stream))


async def test_to_follow_from_what_is_no_place_is_refused(tmp_path: Path) -> None:
    wrong: list[Any] = [-1, "start", True, 1.5]
    async with Huahuo(data=tmp_path / "data", port=0) as app:
        for after in wrong:
            with pytest.raises(Refused, match=re.escape(f"after: {after!r} is no seq")):
                await anext(app.follow("user/42", after=after))


@pytest.mark.parametrize("field", ["user", "user_id"])
def test_a_user_who_is_named_as_a_field_is_refused_before_the_service_itself_sends_it(
    field: str, world: AppWorld
) -> None:
    with pytest.raises(Refused) as refused:
        world.send("place_order", item="tea", **{field: 42})
    assert (
        refused.value.details
        == f"{field}: place_order has no such field: write as_user= for the user who sends it"
    )


async def test_followers_end_when_the_service_stops(tmp_path: Path) -> None:
    async with Huahuo(data=tmp_path / "data", port=0) as app:
        await app.publish("user/42", "a")
        followed = asyncio.ensure_future(_types(app.follow("user/42")))
        seen = asyncio.ensure_future(app.seen("user/42", 9, client="dev-7"))
        await asyncio.sleep(0)
    assert await followed == ["a"]
    assert not await seen


async def _types(events: AsyncIterator[dict[str, Any]]) -> list[str]:
    return [event["type"] async for event in events]


def test_a_thread_that_follows_ends_when_the_service_stops(tmp_path: Path) -> None:
    service = Service(data=tmp_path / "data", port=0, plugins=[])
    with pytest.raises(NotRunning):
        next(iter(service.follow("user/42")))
    with service:
        service.publish("user/42", "a")
        events = service.follow("user/42")
        assert next(iter(events))["type"] == "a"
        with ThreadPoolExecutor(1) as pool:
            rest = pool.submit(list, events)
            service.stop()
            assert rest.result(WITHIN_S) == []


def test_threads_have_the_same_calls_and_the_same_refusals(tmp_path: Path) -> None:
    with Service(data=tmp_path / "data", port=0, plugins=[], entities=[orders()]) as service:
        assert service.publish_many([("user/42", "a", {}), ("user/42", "b", {})]) == 2
        assert service.send("place_order", item="tea", as_user=42)["order_id"] == 1
        assert service.state("order", 1)[0] == Order(42, "tea", 0, "placed")
        assert [event["type"] for event, _ in zip(service.follow("user/42"), "ab", strict=False)] == [
            "a",
            "b",
        ]
        with pytest.raises(Refused, match="conflict"):
            service.send("cancel_order", order_id=1, as_user=42)
        with pytest.raises(HuahuoError, match="kind without entity") as caught:
            service.publish("order/1", "seen", {})
        assert isinstance(caught.value, Refused)
        assert caught.value.code == "invalid_field"
        assert not service.seen("user/42", 2, client="dev-7", timeout_s=0.01)


def test_an_effect_uses_the_application_that_runs_it_until_the_end_of_a_stop(tmp_path: Path) -> None:
    async def test() -> None:
        began, goes_on = asyncio.Event(), asyncio.Event()
        letter = letters()

        @letter.effect(Tell)
        async def tell(effect: Tell, run: EffectRun) -> None:
            began.set()
            await goes_on.wait()
            await app.publish("user/42", "parcel_seen")

        app = Huahuo(entities=[letter], data=tmp_path / "data", port=0)
        async with app:
            await app.send("send_parcel")
            await began.wait()
            stop = asyncio.ensure_future(app.stop())
            await asyncio.sleep(0)
            goes_on.set()
            await stop
        async with app:
            assert (await anext(app.follow("user/42")))["type"] == "parcel_seen"

    asyncio.run(test())


def test_an_effect_uses_the_application_that_huahuo_testing_runs(tmp_path: Path) -> None:
    letter = letters()

    @letter.effect(Tell)
    async def tell(effect: Tell, run: EffectRun) -> None:
        async with app.job("tell", user=42):
            pass

    app = Huahuo(entities=[letter])
    world = AppWorld(app, tmp_path / "data")
    world.send("send_parcel")
    world.advance(seconds=1)
    assert world.state("job", 1)[0].status == "done"
    world.close()
    with pytest.raises(NotRunning):
        _ = app.running


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
        return state

    @lamp.decide
    def switch(state: Order, command: Switch, ctx: Context) -> Outcome:
        return [Opened()]

    @lamp.decide
    def dim(state: Order, command: Dim, ctx: Context) -> Outcome:
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
