"""`given(…).when(…).then(…)`: what it accepts, and what a failure says."""

from collections.abc import Callable

import pytest
from msgspec import Struct
from msgspec.structs import replace

from huahuo import (
    After,
    CancelEffects,
    Command,
    Context,
    Decision,
    Effect,
    Entity,
    Event,
    Every,
    Outcome,
    To,
    to,
)
from huahuo.testing import given
from tests.support.worlds.orders import (
    Cancel,
    Expire,
    Give,
    Given,
    Noted,
    Order,
    Pack,
    Packed,
    Place,
    Placed,
    Report,
    orders,
)

PLACED = Placed(42, "tea")


def test_events_effects_and_the_reply_of_a_decision() -> None:
    decided = given(orders()).when(Place("tea"), user=42)
    decided.then([PLACED, to("user/42", Noted(1))], effects=["pack", "expire"]).replies(order_id=1)
    assert decided.state == Order(42, "tea", 0, "placed")


def test_a_refusal_in_place_of_events_is_shown() -> None:
    with pytest.raises(AssertionError, match=r"\+ refused: conflict: already on its way"):
        given(orders(), [PLACED]).when(Cancel(), user=42).then([Packed(6)])
    with pytest.raises(AssertionError, match=r"- conflict\n\+ order/1 order_progress"):
        given(orders(), [PLACED]).when(Report(5)).refused("conflict")


def test_a_given_event_with_a_value_of_another_type_is_named() -> None:
    with pytest.raises(
        AssertionError, match=r"Placed has a value of another type: Expected `str`, got `int`"
    ):
        given(orders(), [Placed(42, 5)])  # type: ignore[arg-type]


def test_a_given_event_that_nothing_handles_says_what_to_write() -> None:
    with pytest.raises(AssertionError, match=r"handles Ticked: write @order.evolve for it"):
        given(orders(), [Ticked()])


class Ticked(Event, type="ticked", prunable=True): ...


class Clock(Struct, frozen=True):
    count: int = 0
    names: tuple[str, ...] = ()


class Tick(Command): ...


def clock(*, flaky: bool = False) -> Entity[Clock]:
    entity, calls = Entity("clock", Clock), iter(range(1_000))

    @entity.evolve
    def ticked(state: Clock, event: Ticked) -> Clock:
        return replace(state, count=next(calls) if flaky else state.count + 1)

    @entity.decide
    def tick(state: Clock, command: Tick, ctx: Context) -> Outcome:
        return [Ticked()]

    return entity


def test_a_fold_that_is_not_pure_is_found() -> None:
    with pytest.raises(AssertionError, match=r"test_given.py:\d+: ticked makes two states of one event"):
        given(clock(flaky=True), [Ticked()])


def test_a_state_that_needs_events_that_may_be_pruned_is_found() -> None:
    given(clock(), [Ticked()])
    with pytest.raises(AssertionError, match="prunable=True"):
        given(clock(), [Ticked(), Ticked()])


def test_effects_and_timers_are_compared_by_name_or_with_all_that_they_say() -> None:
    decided = given(orders()).when(Place("tea"), user=42)
    noted: list[Event | To] = [PLACED, to("user/42", Noted(1))]
    decided.then(noted, effects=[Pack("tea"), After(3600, Expire())])
    given(orders()).when(Place("tea"), user=42).then(noted, effects=["pack", After(3600, Expire())])
    with pytest.raises(AssertionError) as raised:
        given(orders()).when(Place("tea"), user=42).then(noted, effects=["pack", Every(60, Expire())])
    assert str(raised.value).splitlines() == [
        "the decision has other effects (- expected, + actual):",
        "  pack",
        "- timer expire: expire {} in 60 s, then every 60 s",
        "+ timer expire: expire {} in 3600 s",
    ]


def test_what_a_decision_cancels_is_compared_with_its_class() -> None:
    class Heated(Event, type="kettle_heated"): ...

    class Heat(Effect): ...

    class Switch(Command):
        everything: bool = False

    kettle = Entity("kettle", Order)

    @kettle.evolve(Heated)
    def heated(state: Order, event: Heated) -> Order:
        return state

    @kettle.decide(Switch)
    def switch(state: Order, command: Switch, ctx: Context) -> Outcome:
        return Decision(effects=[CancelEffects(None if command.everything else Heat)])

    hot = given(kettle, [Heated()])
    hot.when(Switch()).then([], effects=[CancelEffects(Heat)])
    hot.when(Switch(everything=True)).then([], effects=[CancelEffects()])
    with pytest.raises(AssertionError, match=r"- cancel all\n\+ cancel heat"):
        hot.when(Switch()).then([], effects=[CancelEffects()])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: given(Order, []), "given(…) takes the Entity, as in given(order, [Placed(…)])"),  # type: ignore[arg-type]
        (lambda: given(orders(), PLACED), "given(…) takes a list of events: write [ ] around Placed(…)"),  # type: ignore[arg-type]
        (lambda: given(orders()).when(Place), "Place is a class: write Place(…)"),  # type: ignore[arg-type]
        (lambda: given(orders()).when(PLACED), "when(…) takes a command, as in when(Place(…)): Placed("),  # type: ignore[arg-type]
        (
            lambda: given(orders()).when(Place("tea"), user=42).then(PLACED),  # type: ignore[arg-type]
            "then(…) takes a list of events: write [ ] around Placed(…)",
        ),
        (
            lambda: given(orders(), [PLACED]).when(Give(7), user=42).then([Given(7)], effects=[5]),  # type: ignore[list-item]
            "then(effects=…): 5 is neither a name nor an effect, After, Every or CancelEffects",
        ),
    ],
)
def test_a_specification_that_is_written_wrong_says_what_to_write(
    wrong: Callable[[], object], said: str
) -> None:
    with pytest.raises(TypeError) as raised:
        wrong()
    assert said in str(raised.value)
