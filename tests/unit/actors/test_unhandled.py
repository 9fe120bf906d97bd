"""A class of events, effects or commands without handler is an error at the start, if the code names it."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from huahuo import DefinitionError, Entity
from huahuo.actors.domain.catalog import refuse_unhandled
from huahuo.actors.domain.plugin import Entities

BEGIN = """
import functools
from msgspec import Struct
from huahuo import After, Command, Decision, Effect, EffectFailed, Entity, Event, Every

class Order(Struct, frozen=True):
    item: str = ""
class Placed(Event, type="order_placed"):
    item: str
class Place(Command, action="place_order", creates=True):
    item: str
class Pack(Effect):
    item: str
class Expire(Command): ...

order = Entity("order", Order)

@order.evolve
def placed(state: Order, event: Placed) -> Order:
    return Order(event.item)
"""
NO_EFFECT = [
    "class Pack(Effect): no handler", "the decide of Place in ",
    "write @order.effect async def …(job: Pack, run)",
]  # fmt: skip
NO_EVOLVE = ["class Packed(Event): no handler", "write @order.evolve def …(state, event: Packed)"]
NO_DECIDE = ["class Expire(Command): no handler", "write @order.decide def …(state, command: Expire, ctx)"]
PLACE = "@order.decide\ndef place(state, command: Place, ctx):\n"

IN_A_DECORATED_DECIDE = """
def kept(function):
    @functools.wraps(function)
    def inner(*given): return function(*given)
    return inner
@order.decide(Place)
@kept
def place(state, command, ctx): return Decision([], effects=[Pack('tea')])
"""
IN_A_CLOSURE = """
def declare():
    class Pack(Effect): ...
    @order.decide(Place)
    def place(state, command, ctx): return Decision([], effects=[Pack()])
declare()
"""
IN_A_FUNCTION = (
    "def work(item): return [Pack(item)]\n" + PLACE + "    return Decision([], effects=work('tea'))"
)
TO_SEND = PLACE + "    return [Placed('tea')]\nclass Cancel(Command, action='cancel_order'): ..."

PACKED_EVENT = "class Packed(Event, type='order_packed'): ...\n"

MISTAKES = {
    "an effect that a decide starts": (PLACE + "    return Decision([], effects=[Pack('tea')])", NO_EFFECT),
    "an effect in an inner function": (
        PLACE + "    return Decision([], effects=[make() for make in [lambda: Pack('tea')]])",
        NO_EFFECT,
    ),
    "an effect in a function that a decide calls": (IN_A_FUNCTION, NO_EFFECT),
    "an effect in a decide with a decorator": (IN_A_DECORATED_DECIDE, NO_EFFECT),
    "an effect of a function's closure": (IN_A_CLOSURE, NO_EFFECT),
    "a command of a timer": (PLACE + "    return Decision([], effects=[After(60, Expire())])", NO_DECIDE),
    "an event that a decide returns": (PACKED_EVENT + PLACE + "    return [Packed()]", NO_EVOLVE),
    "a command that clients should send": (
        TO_SEND,
        ["class Cancel(Command): no handler for 'cancel_order'", "write @order.decide def …("],
    ),
}


_number = itertools.count()


def started(source: str, folder: Path) -> None:
    """Run an application's source as a module, and check its `order` as the service does at its start."""
    path = folder / f"app_{next(_number)}.py"
    path.write_text(BEGIN + source)
    names: dict[str, Any] = {"__name__": path.stem}
    exec(compile(path.read_text(), str(path), "exec"), names)
    order: Entity[Any] = names.get("order") or names["made"][0]
    refuse_unhandled(Entities([order]).catalog.by_kind.values())


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_class_without_handler_is_named_with_its_file_and_what_to_write(
    mistake: str, tmp_path: Path
) -> None:
    source, parts = MISTAKES[mistake]
    with pytest.raises(DefinitionError) as raised:
        started(source, tmp_path)
    said = str(raised.value)
    assert said.startswith(str(tmp_path / "app_")), said
    assert said.partition(".py:")[2][0].isdecimal(), said
    assert "\n" not in said, said
    assert [part for part in parts if part not in said] == [], said


async def test_a_decide_below_the_call_of_huahuo_is_named(tmp_path: Path) -> None:
    from huahuo import Huahuo

    names: dict[str, Any] = {"__name__": "app"}
    exec(BEGIN, names)
    app = Huahuo(entities=[names["order"]], data=tmp_path / "data", port=0)
    exec(PLACE + "    return []", names)
    with pytest.raises(DefinitionError, match=r"place, of order: .* write app = Huahuo\(…\) below it"):
        await app.start()
