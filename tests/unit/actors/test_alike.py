"""Equal states and events are written alike, whatever they hold."""

from collections.abc import Callable
from datetime import date
from enum import Enum
from typing import Any

import pytest
from msgspec import Struct

from huahuo.actors.domain.storable import as_builtins, as_json


class Item(Struct, frozen=True):
    name: str = ""
    tags: frozenset[int] = frozenset()


class Size(Enum):
    SMALL = 1
    LARGE = "large"


class Held(Struct, frozen=True):
    things: frozenset[Any] = frozenset()
    counts: dict[Any, Any] = {}


@pytest.mark.parametrize("write", [as_json, as_builtins])
@pytest.mark.parametrize(
    ("things", "counts"),
    [
        pytest.param([0, 8], [("b", 1), ("a", 2)], id="what can be compared"),
        pytest.param([Item("b"), Item("a", frozenset({1}))], [], id="structs"),
        pytest.param([Size.SMALL, Size.LARGE], [], id="enums"),
        pytest.param([0, "8", None], [], id="several types"),
        pytest.param([0, 8], [(10, 1), (9, {Item("b"), Item("a")})], id="numbers as keys"),
        pytest.param([0, 8], [(date(2020, 2, 1), 1), (date(2020, 1, 1), 2)], id="dates as keys"),
    ],
)
def test_equal_values_are_written_alike(
    write: Callable[[object], object], things: list[Any], counts: list[Any]
) -> None:
    one, other = Held(frozenset(things), dict(counts)), Held(frozenset(things[::-1]), dict(counts[::-1]))
    assert one == other
    assert str(write(one)) == str(write(other))


def test_what_is_written_is_the_value() -> None:
    held = Held(frozenset({Item("b"), Item("a")}), {2: [{Item("c")}], 1: ()})
    assert as_json(held) == (
        b'{"things":[{"name":"a","tags":[]},{"name":"b","tags":[]}],'
        b'"counts":{"1":[],"2":[[{"name":"c","tags":[]}]]}}'
    )
    assert held.things == {Item("a"), Item("b")}
