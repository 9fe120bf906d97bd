"""A number that JSON does not have is a fault that names its place. It is never stored or told as `null`."""

from math import inf, nan
from typing import Any

import pytest
from msgspec import Struct

from huahuo import After, Command, Context, Decision, Effect, Entity, Event, Outcome, Principal, Put, to
from huahuo.actors.domain.structs import Fault
from tests.support.worlds.orders import Engine, in_engine
from tests.support.worlds.scenario import scenario


class Weighed(Event, type="scale_weighed"):
    grams: float
    note: Any = None


class Seen(Event, type="scale_seen"):
    grams: float | None


class Scale(Struct, frozen=True):
    grams: float = 0.0


class Do(Command, action="do", creates=True):
    what: str


class Remind(Command):
    grams: float | None = None


class Print(Effect):
    label: dict[str, Any]


ANSWERS: dict[str, tuple[Decision, str]] = {
    "reply": (Decision([], reply={"x": nan}), "reply.x is nan"),
    "inside a reply": (Decision([], reply={"a": {"b": [1.0, -inf]}}), "reply.a.b[1] is -inf"),
    "struct in a reply": (Decision([], reply={"scale": Scale(nan)}), "reply.scale.grams is nan"),
    "event": (Decision([Weighed(inf)]), "Weighed.grams is inf"),
    "any field": (Decision([Weighed(1.0, note=[nan])]), "Weighed.note[0] is nan"),
    "another stream": (Decision([to("user/42", Seen(nan))]), "Seen.grams is nan"),
    "effect": (Decision(effects=[Print({"grams": nan})]), "Print.label.grams is nan"),
    "timer": (Decision(effects=[After(1, Remind(nan))]), "Remind.grams is nan"),
    "row": (Decision(rows=[Put("scales", "all", "k", [nan])]), "the row 'k' of 'scales'[0] is nan"),
}


def scales() -> Entity[Scale]:
    scale = Entity("scale", Scale)

    @scale.evolve
    def weighed(state: Scale, event: Weighed) -> Scale:
        return Scale(event.grams)

    @scale.decide
    def do(state: Scale, command: Do, ctx: Context) -> Outcome:
        if command.what == "nothing wrong":
            return Decision([Weighed(1.0)], reply={"x": None, "y": 1e308})
        return ANSWERS[command.what][0]

    @scale.decide
    def remind(state: Scale, command: Remind, ctx: Context) -> Outcome:
        return []

    @scale.effect
    async def print_label(job: Print, run: Any) -> None: ...

    @scale.query("get_ratio")
    def get_ratio(state: Scale, who: Principal) -> object:
        return {"ratio": nan}

    @scale.readers
    def may_read(state: Scale, who: Principal) -> bool:
        return True

    return scale


@pytest.mark.parametrize("what", ANSWERS)
@scenario(in_engine, [scales()])
async def test_a_decision_with_a_number_that_json_does_not_have_is_a_fault(
    engine: Engine, *, what: str
) -> None:
    with pytest.raises(Fault) as raised:
        await engine.send("do", what=what)
    assert ANSWERS[what][1] in str(raised.value)
    assert "test_lost_numbers.py" in str(raised.value), "the handler is named"
    assert engine.log.position == 0
