"""The states and steps in docs/delivery.md are those of the table."""

import re

from huahuo.transport.session.delivery_states import START, TABLE, DeliveryState, Step
from scripts.pages import from_everywhere, picture, states


def test_the_picture_draws_every_step_to_another_state_except_those_it_tells() -> None:
    drawn = {
        (DeliveryState[begin], Step[step], DeliveryState[to])
        for begin, to, steps in re.findall(r"^  (\w+) --> (\w+): (.+)$", picture(), re.MULTILINE)
        for step in steps.split(", ")
    }
    assert drawn == {
        (state, step, to)
        for (state, step), to in TABLE.items()
        if to is not state and step not in from_everywhere()
    }
    assert f"[*] --> {START.name}\n" in picture()


def test_every_state_has_a_row_with_all_its_steps() -> None:
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in states().splitlines()[2:]}
    assert set(rows) == {state.name for state in DeliveryState}
    for (state, step), to in TABLE.items():
        assert f"`{step.name}` → {to.name}" in rows[state.name]
