"""Commands on an application's own entities: who may send them, and what becomes of them."""

from typing import Any

import msgspec
import pytest

from tests.support.worlds.orders import ADMIN, BOB, Engine, Order, in_engine
from tests.support.worlds.rooms import rooms
from tests.support.worlds.scenario import scenario

NOT_FOUND = {"type": "error", "code": "not_found", "message": "there is no such order"}


@scenario(in_engine)
async def test_a_refusal_is_recorded_and_expects_the_state_it_was_decided_on(engine: Engine) -> None:
    await engine.send("place_order", item="tea")
    refused = await engine.send("cancel_order", as_id="c2", order_id=1)
    assert (refused["code"], refused["message"]) == ("conflict", "already on its way")
    assert [append.expected for append in engine.log.appends if append.command] == [{"order/1": 1}]
    assert await engine.send("cancel_order", as_id="c2", order_id=1) == refused | {"duplicate": True}


@pytest.mark.parametrize(
    ("action", "fields"), [("cancel_order", {}), ("report_order", {"percent": 1}), ("get_order", {})]
)
@scenario(in_engine)
async def test_an_entity_without_events_is_not_found(
    engine: Engine, *, action: str, fields: dict[str, Any]
) -> None:
    assert await engine.send(action, ADMIN, order_id=9, **fields) == NOT_FOUND


@pytest.mark.parametrize(
    ("action", "fields", "details"),
    [
        ("place_order", {}, "item: it is missing"),
        ("place_order", {"item": 5}, "item: Expected `str`, got `int`"),
        ("place_order", {"item": "x" * 21}, "item: Expected `str` of length <= 20"),
        ("place_order", {"item": "tea", "order_id": 1}, "order_id: this command makes a new order"),
        ("cancel_order", {}, "order_id: it is missing"),
        ("cancel_order", {"order_id": "1"}, "order_id: Expected `int`, got `str`"),
        ("cancel_order", {"order_id": 0}, "order_id: Expected `int` >= 1"),
        ("get_order", {"order_id": -1}, "order_id: Expected `int` >= 1"),
    ],
)
@scenario(in_engine)
async def test_an_invalid_field_is_named(
    engine: Engine, *, action: str, fields: dict[str, Any], details: str
) -> None:
    said = await engine.send(action, **fields)
    assert (said["code"], said["details"]) == ("invalid_field", details)
    assert engine.log.appends == []


@scenario(in_engine)
async def test_a_query_answers_the_readers_of_the_entity_only(engine: Engine) -> None:
    await engine.send("place_order", item="tea")
    state = {"owner": 42, "item": "tea", "percent": 0, "status": "placed"}
    assert await engine.send("get_order", order_id=1) == {
        "type": "get_order", "data": state, "stream": "order/1", "seq": 1,
    }  # fmt: skip
    assert await engine.send("get_order", BOB, order_id=1) == NOT_FOUND
    assert await engine.send("get_order", ADMIN, order_id=2) == NOT_FOUND


@scenario(in_engine)
async def test_a_snapshot_is_the_state_and_its_seq(engine: Engine) -> None:
    await engine.send("place_order", item="tea")
    seq, state = await engine.api.snapshot("order/1")
    assert (seq, msgspec.json.decode(state, type=Order)) == (1, Order(42, "tea", 0, "placed"))


# Natural keys ------------------------------------------------------------------------------------------


@scenario(in_engine, [rooms()])
async def test_a_natural_key_is_given_by_the_client_and_its_case_counts(engine: Engine) -> None:
    said = await engine.send("join_room", room_id="Tea.Room+1@x")
    at = {"stream": "room/Tea.Room+1@x", "seq": 1}
    assert said == {"type": "success", "room_id": "Tea.Room+1@x", "users": 1, "at": at}
    assert (await engine.send("join_room", room_id="tea.room+1@x"))["users"] == 1
    assert (await engine.send("join_room", BOB, room_id="Tea.Room+1@x"))["users"] == 2
    assert (await engine.send("tidy_room", room_id="other"))["code"] == "not_found"


@pytest.mark.parametrize("key", ["", "a b", "a/b", "茶", "x" * 65, ".", "..", "a\n"])
@scenario(in_engine, [rooms()])
async def test_a_key_of_another_form_is_refused(engine: Engine, *, key: str) -> None:
    said = await engine.send("join_room", room_id=key)
    assert (said["code"], said["details"].partition(":")[0]) == ("invalid_field", "room_id")
    assert key in (".", "..", "a\n") or "matching regex" in said["details"], said
