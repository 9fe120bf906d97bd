"""The types of an application for the browser client come from the classes that read its messages."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from huahuo.actors.domain.client_actions import ListQuery, Rows
from huahuo.actors.domain.client_types import Types, client_types
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.plugin import Entities
from huahuo.actors.domain.structs import Command, Event, Outcome


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(Struct, frozen=True, rename="camel"):
    part_number: int = 0
    parts: tuple["Part", ...] = ()


class Painted(Event, type="painted"):
    colour: Colour
    by: int | str | None = None


class Emptied(Event, type="emptied"): ...


class Car(Struct, frozen=True):
    part: Part = Part()
    colours: frozenset[str] = frozenset()


class Paint(Command, action="paint", creates=True):
    colour: Literal["red", "blue"]
    parts: dict[str, Part] = {}  # noqa: RUF012  msgspec copies it


class Empty(Command, action="empty_car"): ...


class Internal(Command): ...


class Which(Struct, frozen=True):
    colour: str = ""


def application(key: type[Any]) -> str:
    car = Entity("car", Car, key=key)

    @car.evolve(Painted)
    def painted(state: Car, event: Painted) -> Car:
        return state

    @car.evolve(Emptied)
    def emptied(state: Car, event: Emptied) -> Car:
        return state

    for command in (Paint, Empty, Internal):

        @car.decide(command)
        def decide(state: Car, command: Any, ctx: Any) -> Outcome:
            return []

    @car.query("get_part")
    def get_part(state: Car, who: Any) -> Part:
        return state.part

    def cars(who: Any, fields: Which) -> Rows:
        return Rows("cars")

    return client_types(Entities([car]).catalog, {"get_cars": ListQuery("get_cars", cars)})


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def test_events_have_their_fields_and_no_type_of_their_own() -> None:
    told = lines(application(int))
    assert 'painted: { colour: "red" | "blue"; by: number | string | null };' in told
    assert "emptied: object;" in told


def test_natural_keys_are_texts_in_every_command_that_is_not_the_first() -> None:
    told = application(str)
    assert "fields: { car_id: string };\n" in told[told.index("empty_car: {") :]


def test_a_command_without_action_is_nobodys_business() -> None:
    assert "nternal" not in application(int)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (datetime, "string"),
        (Annotated[int, Meta(ge=1)], "number"),
        (list[int | None], "readonly (number | null)[]"),
        (tuple[int, str], "readonly [number, string]"),
        (dict[str, list[bool]], "Readonly<Record<string, readonly boolean[]>>"),
        (Any, "unknown"),
        (object(), "unknown"),
    ],
)
def test_a_type_of_python_has_one_of_typescript(annotation: Any, text: str) -> None:
    assert Types(sent=False).of(annotation) == text


def test_a_field_that_may_be_unset_may_be_absent() -> None:
    class Maybe(Struct):
        here: int
        there: int | UnsetType = UNSET

    assert Types(sent=False).inline(Maybe) == "{ here: number; there?: number }"


def test_a_name_that_is_no_identifier_is_quoted() -> None:
    class Odd(Struct, rename={"in_": "in-2"}):
        in_: int

    assert Types(sent=False).inline(Odd) == '{ "in-2": number }'
