"""Fields of commands: types that JSON has no word for are taken, described and named as others are."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from msgspec import Struct
from msgspec.structs import replace

from huahuo import Command, Context, Decision, Entity, Event, Huahuo, Outcome, Principal, Secret
from huahuo.testing.world import AppWorld
from huahuo.transport.client.model import CommandError
from tests.support.patience import WITHIN_S


class Counted(Event, type="shelf_counted"):
    """How many stand at each place."""

    places: dict[int, str]


class Shelf(Struct, frozen=True):
    """The state."""

    places: dict[int, str] = {}


class Count(Command, action="count_shelf", creates=True):
    """A dict whose keys are numbers, and secrets: one that is wanted, one that may be absent."""

    places: dict[int, str]
    password: Secret
    other: Secret | None = None
    weights: tuple[dict[float, str], ...] = ()
    at: datetime | None = None
    day: date | None = None
    opens: time | None = None
    took: timedelta | None = None
    price: Decimal | None = None
    key: UUID | None = None


def application() -> Huahuo:
    shelf = Entity("shelf", Shelf)

    @shelf.evolve
    def counted(state: Shelf, event: Counted) -> Shelf:
        return replace(state, places={**state.places, **event.places})

    @shelf.decide
    def count(state: Shelf, command: Count, ctx: Context) -> Outcome:
        return Decision([Counted(command.places)], secrets={"password": command.password})

    @shelf.readers
    def may_read(state: Shelf, who: Principal) -> bool:
        return True

    return Huahuo(entities=[shelf])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[AppWorld]:
    world = AppWorld(application(), tmp_path / "data")
    yield world
    world.close()


def test_a_dict_with_numbers_as_keys_comes_as_json_has_it(world: AppWorld) -> None:
    alice = world.client(42)
    assert alice.send("count_shelf", places={"1": "tea", "-2": "jam"}, password="hunter2")["shelf_id"] == 1
    assert world.state("shelf", 1) == (Shelf({1: "tea", -2: "jam"}), 1)
    world.send("count_shelf", places={3: "oil"}, password="hunter2", as_user=42)  # of Python's own
    assert world.state("shelf", 2) == (Shelf({3: "oil"}), 1)


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        ({"places": {"tea": "1"}, "password": "x"}, "places: Expected `int`, got `str`"),
        ({"places": {"1": 1}, "password": "x"}, "places: Expected `str`, got `int`"),
        ({"places": {}, "password": 1}, "password: "),
        ({"places": {}}, "password: it is missing"),
        ({"places": {"18446744073709551616": "tea"}, "password": "x"}, "places: this value is not allowed"),
        ({"places": {"0": "tea", "-0": "jam"}, "password": "x"}, "places: this value is not allowed"),
        ({"places": {"01": "tea"}, "password": "x"}, "places: Expected `int`"),
        ({"places": {}, "weights": [{"nan": "tea"}], "password": "x"}, "weights: this value is not allowed"),
        ({"places": {}, "weights": [{"1": "a", "1.0": "b"}], "password": "x"}, "weights: this value is not"),
        *(
            ({"places": {}, "password": "x", name: "soon"}, f"{name}: {wanted} is needed")
            for name, wanted in (
                ("at", "a date and time as in 2026-11-27T10:31:07Z"),
                ("day", "a date as in 2026-11-27"),
                ("opens", "a time as in 10:31:07"),
                ("took", "a duration as in PT90S"),
                ("price", "a decimal number"),
                ("key", "a UUID"),
            )
        ),
    ],
)
def test_a_key_or_a_secret_of_another_type_is_named(
    world: AppWorld, fields: dict[str, Any], details: str
) -> None:
    with pytest.raises(CommandError) as refused:
        world.client(42).send("count_shelf", **fields)
    assert refused.value.code == "invalid_field"
    assert refused.value.details.startswith(details)


def test_the_openapi_document_describes_a_secret_as_a_password(world: AppWorld) -> None:
    async def asked() -> Any:
        async with httpx.AsyncClient(timeout=WITHIN_S) as http:
            return (await http.get(f"{world.running.url}/openapi.json")).json()

    document = world.run(asked())
    body = document["paths"]["/commands/count_shelf"]["post"]["requestBody"]["content"]["application/json"]
    schema = body["schema"]
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    secret = {"type": "string", "format": "password", "writeOnly": True}
    assert schema["properties"]["password"] == secret
