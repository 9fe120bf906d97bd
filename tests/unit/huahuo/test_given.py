"""`given(…).when(…).then(…)`: what it accepts, and what a failure says."""

import pytest
from msgspec import Struct
from msgspec.structs import replace

from huahuo import Command, Context, Entity, Event, Outcome, to
from huahuo.testing import given
from tests.support.worlds.orders import (
    Cancel,
    Give,
    Given,
    Noted,
    Order,
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


def test_a_refusal() -> None:
    given(orders(), [PLACED]).when(Cancel(), user=42).refused("conflict")
    given(orders(), [PLACED]).when(Give(7), user=7).refused("not_found")


def test_the_next_command_is_decided_on_the_state_after_it() -> None:
    order = given(orders(), [PLACED]).when(Give(7), user=42).then([Given(7)])
    order.when(Give(8), user=42).refused("not_found")
    order.when(Give(8), admin=True, user=1).then([Given(8)])


def test_a_failure_shows_the_expected_and_the_actual_events_as_a_diff() -> None:
    with pytest.raises(AssertionError) as failed:
        given(orders(), [PLACED]).when(Report(5)).then([Packed(6)])
    assert str(failed.value) == (
        "the decision has other events (- expected, + actual):\n"
        '- order/1 order_progress {"percent":6}\n'
        '+ order/1 order_progress {"percent":5}'
    )


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


def test_a_failure_shows_no_line_of_the_library() -> None:
    with pytest.raises(AssertionError) as failed:
        given(orders(), [PLACED]).when(Report(5)).then([Packed(6)])
    shown = [entry for entry in failed.traceback if not entry.ishidden(failed)]
    assert [str(entry.path) for entry in shown] == [__file__]


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
    with pytest.raises(AssertionError, match="two folds of the same events differ"):
        given(clock(flaky=True), [Ticked()])


def test_a_state_that_needs_events_that_may_be_pruned_is_found() -> None:
    given(clock(), [Ticked()])
    with pytest.raises(AssertionError, match="prunable=True"):
        given(clock(), [Ticked(), Ticked()])
