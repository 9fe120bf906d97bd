"""The types of an application for the browser client come from the classes that read its messages."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct

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
