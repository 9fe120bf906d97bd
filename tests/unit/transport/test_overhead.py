"""Charges grow by what the process spent and nobody was charged for, within a bound."""

import pytest

from huahuo.transport.load.shares import FACTOR_MAX, LOOK_S, Overhead


def looked(charged_s: float, spent_s: float, looks: int = 20) -> Overhead:
    """After `looks` spans of `LOOK_S`, with the same charge and the same time spent in each."""
    overhead = Overhead(0.0, 0.0)
    for n in range(1, looks + 1):
        overhead.charged(charged_s)
        overhead.look(n * LOOK_S, n * spent_s)
    return overhead


def test_before_the_first_look_a_charge_counts_as_it_is() -> None:
    assert Overhead(0.0, 0.0).charged(0.25) == 0.25


def test_charges_are_multiplied_by_what_was_missed() -> None:
    assert looked(charged_s=0.04, spent_s=0.08).charged(0.01) == pytest.approx(0.02, rel=0.01)


def test_a_charge_is_never_made_smaller() -> None:
    assert looked(charged_s=0.08, spent_s=0.04).factor == 1.0


def test_the_factor_has_a_bound() -> None:
    assert looked(charged_s=0.02, spent_s=1.0).factor == pytest.approx(FACTOR_MAX, rel=0.01)


def test_where_hardly_anything_is_charged_the_rest_is_charged_to_no_user() -> None:
    assert looked(charged_s=0.001, spent_s=0.09).factor == 1.0


def test_a_quiet_time_brings_it_back_to_one() -> None:
    overhead = looked(charged_s=0.02, spent_s=1.0)
    for n in range(21, 41):
        overhead.look(n * LOOK_S, 20.0)
    assert overhead.factor == pytest.approx(1.0, abs=0.01)
