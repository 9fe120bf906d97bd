"""A soak says how what a service holds rises, and fails if one of them is not back at its base line."""

from tests.support.soak.__main__ import left_over
from tests.support.soak.samples import slope

BEFORE = {"tasks": 12, "timers": 5, "descriptors": 20, "but for pages": 60_000}


def test_what_is_back_at_its_base_line_is_no_fault() -> None:
    assert left_over(BEFORE, {"tasks": 13, "timers": 2, "descriptors": 20, "but for pages": 64_000}) == []


def test_each_that_is_left_over_is_named() -> None:
    for what, after in (("tasks", 30), ("timers", 40), ("descriptors", 31), ("but for pages", 70_000)):
        [text] = left_over(BEFORE, {**BEFORE, what: after})
        assert what in text


def test_a_slope_is_by_how_much_something_rises_in_a_minute() -> None:
    assert slope([0.0, 1.0, 2.0], [10, 13, 16]) == 3.0
    assert slope([1.0], [10]) == slope([], []) == 0.0
