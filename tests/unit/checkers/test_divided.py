"""The checkers of divided work accept a good history, and refuse bad ones made by hand."""

from typing import Any

from huahuo.eventstore.ambient import json_bytes
from huahuo.eventstore.model import StoredEvent
from tests.support.checkers import divided

BEGUN = {"carry crate/1": [("a", 1.0)]}
GIVEN = {"crm": [("a", 1), ("a", 4), ("a", 5), ("a", 8)]}


def event(position: int, stream: str, type_: str, **fields: Any) -> StoredEvent:
    body = json_bytes({"type": type_, **fields})
    return StoredEvent(position, stream, position, type_, body, 1, 0, "", "", "", 0, "", b"")


GOOD = [
    event(1, "crate/1", "crate_packed"),
    event(2, "effect/crate/1", "effect_requested", id=1, effect="carry"),
    event(3, "timer/crate/1", "timer_set", name="ring", due_ms=10),
    event(4, "crate/1", "crate_carried"),
    event(5, "crate/1", "crate_weighed"),
    event(6, "effect/crate/1", "effect_ended", id=1),
    event(7, "timer/crate/1", "timer_fired", name="ring", due_ms=10),
    event(8, "crate/1", "crate_rang"),
]


def test_a_good_history_is_accepted() -> None:
    for verdict in (
        divided.said_once(GOOD),
        divided.effects_end_once(GOOD),
        divided.timers_fire_once(GOOD),
        divided.followers_miss_nothing(GOOD, GIVEN),
        divided.once_in_calm(GOOD, BEGUN, GIVEN, 0),
    ):
        assert verdict.holds, verdict


def test_two_timers_and_two_effects_of_one_entity_are_told_apart() -> None:
    two = [
        event(1, "timer/crate/1", "timer_set", name="ring", due_ms=10),
        event(2, "timer/crate/1", "timer_set", name="toll", due_ms=20),
        event(3, "timer/crate/1", "timer_fired", name="ring", due_ms=10),
        event(4, "timer/crate/1", "timer_fired", name="toll", due_ms=20),
        event(5, "effect/crate/1", "effect_requested", id=1, effect="carry"),
        event(6, "effect/crate/1", "effect_requested", id=2, effect="carry"),
        event(7, "effect/crate/1", "effect_ended", id=1),
        event(8, "effect/crate/1", "effect_ended", id=2),
    ]
    assert divided.timers_fire_once(two).holds
    assert divided.effects_end_once(two).holds
    assert divided.effects_end_once(two[:-1]).holds is False


def test_what_is_said_twice_or_never_is_refused() -> None:
    assert divided.said_once([*GOOD, event(9, "crate/1", "crate_carried")]).holds is False
    assert divided.said_once(GOOD[:-1]).holds is False


def test_an_effect_without_an_end_and_a_word_after_its_end_are_refused() -> None:
    assert divided.effects_end_once(GOOD[:5]).holds is False
    late = event(9, "effect/crate/1", "effect_claimed", id=1)
    assert divided.effects_end_once([*GOOD, late]).holds is False


def test_a_timer_that_fires_again_is_refused() -> None:
    again = event(9, "timer/crate/1", "timer_fired", name="ring", due_ms=10)
    assert divided.timers_fire_once([*GOOD, again]).holds is False


def test_an_event_that_no_follower_was_given_is_refused() -> None:
    assert divided.followers_miss_nothing(GOOD, {"crm": GIVEN["crm"][1:]}).holds is False


def test_what_happens_twice_in_calm_is_refused_and_is_allowed_before() -> None:
    twice = {"carry crate/1": [("a", 1.0), ("b", 1.0)]}
    assert divided.once_in_calm(GOOD, twice, GIVEN, 0).holds is False
    assert divided.once_in_calm(GOOD, BEGUN, {"crm": [*GIVEN["crm"], ("b", 8)]}, 0).holds is False
    assert divided.once_in_calm(GOOD, twice, {"crm": [*GIVEN["crm"], ("b", 8)]}, 8).holds is not False


def test_an_effect_that_failed_runs_once_more_in_calm() -> None:
    failed = event(9, "effect/crate/1", "effect_failed", id=1)
    twice = {"carry crate/1": [("a", 1.0), ("a", 2.0)]}
    assert divided.once_in_calm([*GOOD, failed], twice, GIVEN, 0).holds is True
    assert divided.once_in_calm([*GOOD, failed], BEGUN, GIVEN, 0).holds is False
