"""Texts of errors have a bound: what is told and recorded, and what is looked up in the catalogues."""

from types import ModuleType

import msgspec
import pytest

from huahuo.actors.plugins.calls import TEXT_CHARS_MAX, Refusal, error_body
from huahuo.actors.plugins.words import CHARS_MAX, Words


def words() -> Words:
    chinese, english = ModuleType("zh"), ModuleType("en")
    chinese.__dict__.update(WRONG="{} 错误：{}")
    english.__dict__.update(WRONG="{} is wrong: {}")
    made = Words()
    made.add(chinese, english)
    return made


def test_a_text_longer_than_the_bound_is_not_looked_up_and_stays_as_it_is() -> None:
    for over in (0, 1):
        filler = "x" * (CHARS_MAX + over - len("a is wrong: "))
        said = words().explain(f"a is wrong: {filler}", "zh")
        assert said == (f"a is wrong: {filler}" if over else f"a 错误：{filler}")
        filler = "x" * (CHARS_MAX + over - len("a 错误："))
        said = words().say(f"a 错误：{filler}", "en")
        assert said == (f"a 错误：{filler}" if over else f"a is wrong: {filler}")


@pytest.mark.parametrize(("length", "told"), [(TEXT_CHARS_MAX, "x" * TEXT_CHARS_MAX), (1_000_000, None)])
def test_the_texts_of_a_refusal_are_cut_at_the_bound(length: int, told: str | None) -> None:
    told = told or f"{'x' * (TEXT_CHARS_MAX - 1)}…"
    said = msgspec.json.decode(error_body(Refusal("conflict", "x" * length, "x" * length)))
    assert (said["message"], said["details"]) == (told, told)
