"""Draws the states of a subscription in docs/delivery.md from `huahuo.transport.session.delivery_states`.

Run `python scripts/delivery_diagram.py`; a test fails when the page is not what this prints.
"""

from collections import defaultdict
from pathlib import Path

from huahuo.transport.session.delivery_states import START, TABLE, DeliveryState, Step

PAGE = Path(__file__).resolve().parent.parent / "docs" / "delivery.md"
BEGIN, END = "<!-- delivery -->\n", "<!-- /delivery -->"


def from_everywhere() -> dict[Step, DeliveryState]:
    """The steps that lead from every other state to the same one. They are told, not drawn."""
    found: dict[Step, DeliveryState] = {}
    for step in Step:
        begins = {state for state, taken in TABLE if taken is step}
        ends = {to for (_, taken), to in TABLE.items() if taken is step}
        if len(ends) == 1 and begins | ends == set(DeliveryState):
            (found[step],) = ends
    return found


def picture() -> str:
    """The steps to another state, in Mermaid."""
    arrows: dict[tuple[DeliveryState, DeliveryState], list[str]] = defaultdict(list)
    for (state, step), to in TABLE.items():
        if to is not state and step not in from_everywhere():
            arrows[state, to].append(step.name)
    lines = [f"  [*] --> {START.name}\n"]
    lines += [f"  {state.name} --> {to.name}: {', '.join(steps)}\n" for (state, to), steps in arrows.items()]
    told = [
        f"`{step.name}` leads from every other state to {to.name}" for step, to in from_everywhere().items()
    ]
    return f"```mermaid\nstateDiagram-v2\n{''.join(lines)}```\n\nNot drawn: {'; '.join(told)}.\n"


def states() -> str:
    """Each state with its meaning and the steps that it allows."""
    rows = []
    for state in DeliveryState:
        moves = [f"`{step.name}` → {to.name}" for (begin, step), to in TABLE.items() if begin is state]
        rows.append(f"| {state.name} | {state.meaning} | {', '.join(moves) or '–'} |\n")
    return "| state | meaning | steps |\n|---|---|---|\n" + "".join(rows)


def steps() -> str:
    """Each step with its meaning."""
    return "| step | what happened |\n|---|---|\n" + "".join(f"| `{s.name}` | {s.meaning} |\n" for s in Step)


def with_diagram(page: str) -> str:
    """`page` with the table of today."""
    head, rest = page.split(BEGIN)
    _old, tail = rest.split(END)
    return f"{head}{BEGIN}{picture()}\n{states()}\n{steps()}{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(with_diagram(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
