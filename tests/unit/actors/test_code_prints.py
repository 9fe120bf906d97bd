"""What counts as other code: a stored state is used only if the same code would make it from the events."""

import sys
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache, partial
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any

import pytest
from msgspec import Struct

from huahuo import Entity, Event
from huahuo.actors.domain import code_fingerprint
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.code_fingerprint import own_values_in, package_of, print_of
from huahuo.actors.domain.fold import EntityFold
from huahuo.actors.domain.plugin import past_of

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
        pytest.param({"money": "def up(*given): return 2"}, id="a function of a module in a package"),
        pytest.param({"limits": "class Limits: MOST = 4"}, id="a constant of a class"),
        pytest.param({"sizes": PARTS["printed_shop_parts.sizes"].replace("1", "2")}, id="a value of an enum"),
        pytest.param({"source": WIDER.replace("0, 8", "0, 9")}, id="a constant set"),
    ],
)
def test_what_lies_in_other_modules_of_the_application_counts_too(other: dict[str, Any]) -> None:
    assert print_of(wider()) != print_of(wider(**other))


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


def test_what_a_function_fills_while_it_runs_is_no_other_code() -> None:
    evolve = wider()
    before = print_of(evolve)
    evolve(None, None)
    assert print_of(evolve) == before


def test_the_print_stays_while_the_process_runs() -> None:
    before = fingerprint()
    module: Any = sys.modules["printed_shop"]
    module.RATE = 12
    assert EntityFold(module.order).fingerprint == before


def test_code_is_known_by_the_name_that_it_was_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.__spec__ = ModuleSpec("shop.orders", None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(add, "__module__", "__main__")
    assert package_of(add) == "shop"


class Asked:
    """Stands for something else, which is not there yet."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("class")

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("dict")

    def __call__(self) -> None: ...


class Endless:
    def __getattr__(self, name: str) -> Any:
        return Endless()

    def __call__(self) -> None: ...


class Loud(str):
    __slots__ = ()

    def __repr__(self) -> str:
        raise RuntimeError("repr")


def nested(depth: int) -> tuple[Any, ...]:
    return (nested(depth - 1),) if depth else ()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Asked, id="a proxy"),
        pytest.param(Endless, id="answers everything"),
        pytest.param(Loud, id="a text of its own"),
        pytest.param(lambda: 10**5_000, id="many digits"),
        pytest.param(lambda: nested(500), id="deep"),
        pytest.param(lambda: Enum("Size", {"SMALL": object()}), id="an enum of objects"),
    ],
)
def test_whatever_a_constant_is_it_is_only_looked_at(make: Callable[[], Any]) -> None:
    module = ModuleType("printed_shop")
    exec("def evolve(state, event): return constant", vars(module))
    vars(module)["constant"] = make()
    assert print_of(module.evolve) == print_of(module.evolve)


def test_code_that_several_handlers_use_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    own = own_values_in

    def counted(function: FunctionType, home: Any) -> Iterator[Any]:
        looked.append(function.__name__)
        return own(function, home)

    monkeypatch.setattr(code_fingerprint, "own_values_in", counted)
    module = ModuleType("printed_shop")
    source = "".join(f"def f{at}(): return f{(at + 1) % 300}()\n" for at in range(300))
    exec(source, vars(module))
    print_of(*(vars(module)[f"f{at}"] for at in range(300)))
    assert len(looked) == 300
