"""What counts as other code: a stored state is used only if the same code would make it from the events."""

import sys
from collections.abc import Iterator
from functools import cache, partial
from types import ModuleType
from typing import Any

import pytest
from msgspec import Struct

from huahuo import Entity, Event
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.fold import EntityFold
from huahuo.actors.domain.past import past_of
from huahuo.actors.domain.prints import print_of

SHOP = """
from msgspec import Struct
from msgspec.structs import replace
from huahuo import Entity, Event

RATE = 10

def with_tax(price):
    return price * RATE // 10

class Line(Struct, frozen=True):
    price: int = 0

    @property
    def whole(self):
        return with_tax(self.price)

class Order(Struct, frozen=True):
    lines: tuple[Line, ...] = ()
    total: int = 0

    def plus(self, line):
        return replace(self, lines=(*self.lines, line), total=self.total + line.whole)

class Added(Event, type="line_added"):
    price: int = 1

order = Entity("order", Order)

@order.evolve
def added(state: Order, event: Added) -> Order:
    return state.plus(Line(event.price))
"""


@pytest.fixture(autouse=True)
def module() -> Iterator[None]:
    yield
    sys.modules.pop("printed_shop", None)


def fingerprint(source: str = SHOP) -> str:
    """That of the entity of a module with this source."""
    module = sys.modules["printed_shop"] = ModuleType("printed_shop")
    exec(compile(source, "printed_shop.py", "exec"), vars(module))
    return EntityFold(module.order).fingerprint


def test_the_same_code_has_the_same_print() -> None:
    assert fingerprint() == fingerprint()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("RATE = 10", "RATE = 12", id="a constant"),
        pytest.param("price * RATE", "2 * price * RATE", id="a function that a method calls"),
        pytest.param("self.total + line", "line", id="a method of the state"),
        pytest.param("with_tax(self.price)", "self.price", id="a property of a struct in the state"),
        pytest.param("price: int = 1", "price: int = 2", id="the default of an event's field"),
        pytest.param("Line(event.price)", "Line(event.price + 1)", id="the handler itself"),
    ],
)
def test_other_code_that_a_handler_uses_has_another_print(old: str, new: str) -> None:
    assert old in SHOP
    assert fingerprint() != fingerprint(SHOP.replace(old, new, 1))


def add(one: int, other: int, *, more: int = 0) -> int:
    return one + other + more


def test_the_print_of_a_callable_does_not_depend_on_where_it_lies_in_memory() -> None:
    class Adds:
        def __call__(self, one: int) -> int:
            return add(one, 1)

    assert print_of(partial(add, 1)) == print_of(partial(add, 1)) != print_of(partial(add, 2))
    assert print_of(cache(add)) == print_of(cache(add))
    assert print_of(Adds()) == print_of(Adds())


class Tagged(Event, type="thing_tagged"):
    tags: frozenset[int]


class Thing(Struct, frozen=True):
    tags: frozenset[int] = frozenset()


def things() -> Entity[Thing]:
    thing = Entity("thing", Thing)

    @thing.evolve
    def tagged(state: Thing, event: Tagged) -> Thing:
        return Thing(event.tags)

    return thing


@pytest.mark.parametrize("tags", [(0, 8), (8, 0)])
def test_time_travel_shows_equal_sets_alike(tags: tuple[int, int]) -> None:
    subject = past_of(Catalog([things()])).own_subject("thing/1")
    assert subject is not None
    held: Any = subject.parts[0].fold.initial("thing/1")
    held.state = Thing(frozenset(tags))
    assert subject.show([held]) == {"tags": [0, 8]}
