"""What counts as other code: a stored state is used only if the same code would make it from the events."""

import sys
from collections.abc import Iterator
from functools import cache, partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
from msgspec import Struct

from huahuo import Entity, Event
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.code_fingerprint import package_of, print_of
from huahuo.actors.domain.plugin import past_of


@pytest.fixture(autouse=True)
def module() -> Iterator[None]:
    yield
    sys.modules.pop("printed_shop", None)


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


WIDER = """
import sys
import elsewhere
import printed_shop_parts.money
from enum import Enum
from printed_shop_parts.limits import Limits
from printed_shop_parts.sizes import Size

NAMES = frozenset({0, 8})
filled = None

def rates():
    global filled
    if filled is None:
        filled = __name__ + __file__
    return filled

def evolve(state, event):
    rates()
    return printed_shop_parts.money.up(Limits.MOST, Size.SMALL, NAMES, elsewhere.now)
"""
PARTS = {
    "printed_shop_parts.money": "def up(*given): return 1",
    "printed_shop_parts.limits": "class Limits: MOST = 3",
    "printed_shop_parts.sizes": "from enum import Enum\nclass Size(Enum): SMALL = 1",
    "elsewhere": "now = 1",
}


def made(name: str, source: str, file: str) -> ModuleType:
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = file
    exec(compile(source, file, "exec"), vars(module))
    return module


def wider(source: str = WIDER, folder: str = "/a", name: str = "printed_shop", **parts: str) -> Any:
    """The function `evolve` of a module of several, which may lie in any folder."""
    package = made("printed_shop_parts", "", f"{folder}/printed_shop_parts.py")
    for inner, code in PARTS.items():
        short = inner.rpartition(".")[2]
        there = "/other" if inner == "elsewhere" else folder
        setattr(package, short, made(inner, parts.get(short, code), f"{there}/{short}.py"))
    return made(name, source, f"{folder}/{name}.py").evolve


@pytest.fixture(autouse=True)
def parts() -> Iterator[None]:
    yield
    for name in ("printed_shop_parts", "started_shop", *PARTS):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"folder": "/b"}, id="another folder"),
        pytest.param({"name": "started_shop"}, id="the file that is started"),
        pytest.param({"source": WIDER.replace("0, 8", "8, 0")}, id="a set in another order"),
        pytest.param({"elsewhere": "now = 2"}, id="another package's values"),
    ],
)
def test_the_print_is_of_the_code_alone(other: dict[str, Any]) -> None:
    assert print_of(wider()) == print_of(wider(**other))


def test_code_is_known_by_the_name_that_it_was_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.__spec__ = ModuleSpec("shop.orders", None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(add, "__module__", "__main__")
    assert package_of(add) == "shop"
