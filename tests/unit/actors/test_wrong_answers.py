"""What a `decide` may not answer: the fault names the handler's place and what to write."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct

from huahuo import (
    After,
    CancelEffects,
    Command,
    Context,
    Decision,
    Effect,
    Entity,
    Event,
    Outcome,
    Put,
    Refused,
)
from huahuo.actors.domain.structs import Fault
from huahuo.testing import given


class Filled(Event, type="jar_filled"): ...


class Jar(Struct, frozen=True): ...


class Fill(Command): ...


class Boil(Effect): ...


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "an event alone": (Filled, "it returns Filled: return [Filled(…)]"),
    "a class in place of an event": (lambda: [Filled], "Filled is a class: write Filled(…)"),
    "a class in place of an effect": (lambda: Decision(effects=[Boil]), "Boil is a class: write Boil(…)"),  # type: ignore[list-item]
    "a part that is a number": (
        lambda: Decision(rows=[Put("jars", 5, "a", {})]),  # type: ignore[arg-type]
        "Put: the part is a text: write str(…) around 5",
    ),
    "a table that is a number": (
        lambda: Decision(rows=[Put(5, "", "a", {})]),  # type: ignore[arg-type]
        "Put: the table is a text: write str(…) around 5",
    ),
    "a key that is a number": (
        lambda: Decision(rows=[Put("jars", "", 5, {})]),  # type: ignore[arg-type]
        'Put: the key is a text: write f"{…:016d}" in place of 5',
    ),
    "a row that JSON cannot hold": (
        lambda: Decision(rows=[Put("jars", "", "a", object())]),
        "the row 'a' of 'jars': Encoding objects of type object is unsupported",
    ),
    "a reply that JSON cannot hold": (
        lambda: Decision(reply={"jar": object()}),
        "reply: Encoding objects of type object is unsupported",
    ),
    "a secret that is a number": (
        lambda: Decision(secrets={"pin": 5}),  # type: ignore[dict-item]
        "secrets: 'pin' is a text or a Secret, not int",
    ),
    "secrets without values": (
        lambda: Decision(secrets=["pin"]),  # type: ignore[arg-type]
        'secrets: write {"password": …}',
    ),
}


def jars(answer: Callable[[], Any]) -> Entity[Jar]:
    jar = Entity("jar", Jar)

    @jar.evolve
    def filled(state: Jar, event: Filled) -> Jar:
        return state

    @jar.decide
    def fill(state: Jar, command: Fill, ctx: Context) -> Outcome:
        return answer()  # type: ignore[no-any-return]

    return jar


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_answer_names_the_handler_and_what_to_write(wrong: str) -> None:
    answer, said = WRONG[wrong]
    with pytest.raises(Fault) as raised:
        given(jars(answer), [Filled()]).when(Fill())
    text = str(raised.value)
    assert text.startswith(f"{__file__}:")
    assert text.endswith(f": fill, a handler of jar.decide: {said}")


def test_a_timer_that_no_clock_can_show_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="at most 100,000,000,000, which are 3,000 years"):
        After(1e300, Fill())


@pytest.mark.parametrize("name", ["code", "message", "details"])
def test_a_refusal_of_anything_but_texts_is_refused_where_it_is_made(name: str) -> None:
    said: dict[str, Any] = {"code": "full", name: 2}
    with pytest.raises(TypeError, match=f'Refused: {name} is a text, not int: write {name}="…"'):
        Refused(**said)


def test_only_effects_are_cancelled() -> None:
    with pytest.raises(TypeError, match=r"CancelEffects: .*Filled.* is no class of effects"):
        CancelEffects(Filled)  # type: ignore[arg-type]
