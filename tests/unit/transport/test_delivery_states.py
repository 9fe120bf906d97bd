"""The table of a subscription's states: no state is out of reach, all can end, other pairs are faults."""

from itertools import product

import pytest

from huahuo.transport.session.delivery_states import START, TABLE, DeliveryState, IllegalStepError, Step


def reachable(start: DeliveryState) -> set[DeliveryState]:
    """Every state that steps of the table lead to, `start` included."""
    seen = {start}
    while True:
        further = {to for (state, _), to in TABLE.items() if state in seen}
        if further <= seen:
            return seen
        seen |= further


def test_every_state_is_reachable_from_the_start() -> None:
    assert reachable(START) == set(DeliveryState)


@pytest.mark.parametrize("state", DeliveryState, ids=lambda state: state.name)
def test_every_state_can_end(state: DeliveryState) -> None:
    assert DeliveryState.GONE in reachable(state)


def test_nothing_leads_out_of_the_end() -> None:
    assert reachable(DeliveryState.GONE) == {DeliveryState.GONE}


def test_every_step_is_used() -> None:
    assert {step for _, step in TABLE} == set(Step)


@pytest.mark.parametrize("state", DeliveryState, ids=lambda state: state.name)
def test_any_other_step_is_a_fault_that_names_state_and_step(state: DeliveryState) -> None:
    for step in Step:
        if (state, step) not in TABLE:
            with pytest.raises(IllegalStepError, match=rf"{step.name} .* {state.name}"):
                TABLE[state, step]


@pytest.mark.parametrize("step", Step, ids=lambda step: step.name)
def test_a_column_says_of_its_step_what_the_table_says(step: Step) -> None:
    column = TABLE.column(step)
    for state in DeliveryState:
        if (state, step) in TABLE:
            assert column[state] is TABLE[state, step]
        else:
            with pytest.raises(IllegalStepError, match=rf"{step.name} .* {state.name}"):
                column[state]


def test_a_fault_is_a_failed_assertion_and_keeps_what_met() -> None:
    with pytest.raises(AssertionError) as caught:
        TABLE[DeliveryState.GONE, Step.REPLIED]
    assert isinstance(caught.value, IllegalStepError)
    assert (caught.value.state, caught.value.step) == (DeliveryState.GONE, Step.REPLIED)


def test_looking_up_a_wrong_pair_adds_nothing_to_the_table() -> None:
    before = dict(TABLE)
    for pair in product(DeliveryState, Step):
        if pair not in before:
            with pytest.raises(IllegalStepError):
                TABLE[pair]
    assert before == TABLE
