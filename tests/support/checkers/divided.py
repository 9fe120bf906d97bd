"""Checkers of work that nodes divide: what the log and the outside say of it in the end. Pure.

Effects and deliveries to followers may happen more than once outside when a node dies, sleeps or is cut off;
what they say in the log happens once. In calm each happens once outside, too.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.verdict import Tally, Verdict

ONCE = ("crate_carried", "crate_weighed", "crate_rang")
"""What each crate gets exactly once, by an effect, an effect of a bounded class, and a timer."""


def _body(event: StoredEvent) -> dict[str, Any]:
    return msgspec.json.decode(event.body, type=dict[str, Any])


def said_once(events: Iterable[StoredEvent]) -> Verdict:
    """I22: each effect and each timer says its part in the log exactly once."""
    tally = Tally("I22")
    crates: set[str] = set()
    said: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        if event.type == "crate_packed":
            crates.add(event.stream)
        elif event.type in ONCE:
            said[event.stream][event.type] += 1
    for crate in sorted(crates):
        for what in ONCE:
            tally.judged += 1
            if said[crate][what] != 1:
                tally.wrong(f"{crate}: {what} {said[crate][what]} times")
    return tally.verdict("crates that were carried, weighed and rung once")


def effects_end_once(events: Iterable[StoredEvent]) -> Verdict:
    """I26: each effect that was asked for ends once, and nothing is said of it afterwards."""
    tally = Tally("I26")
    asked: set[int] = set()
    ended: set[int] = set()
    for event in events:
        if not event.stream.startswith("effect/"):
            continue
        fact = _body(event)
        number = fact.get("id", 0)
        if fact["type"] == "effect_requested":
            asked.add(number)
            continue
        if number in ended:
            tally.wrong(f"{fact['type']} after the end of effect {number}")
        if fact["type"] == "effect_ended":
            ended.add(number)
    tally.judged = len(asked)
    for number in sorted(asked - ended):
        tally.wrong(f"effect {number} has no end")
    return tally.verdict("effects that ended once")


def timers_fire_once(events: Iterable[StoredEvent]) -> Verdict:
    """I26: a timer fires once for each time that it was due, and one that repeats leaves no time out."""
    tally = Tally("I26")
    due: dict[tuple[str, str], int] = {}
    for event in events:
        if not event.stream.startswith("timer/"):
            continue
        fact = _body(event)
        timer = (event.stream, fact.get("name", ""))
        if fact["type"] == "timer_set":
            due[timer] = fact["due_ms"]
        elif fact["type"] == "timer_fired":
            tally.judged += 1
            if fact["due_ms"] != due.get(timer):
                tally.wrong(f"{timer} fired for {fact['due_ms']}, and was due at {due.get(timer)}")
            if fact.get("next_ms"):
                due[timer] = fact["next_ms"]
            else:
                due.pop(timer, None)
    return tally.verdict("firings, each for the time that was due")


def followers_miss_nothing(
    events: Iterable[StoredEvent], delivered: Mapping[str, Sequence[tuple[str, int]]]
) -> Verdict:
    """I26: each follower is given each event of its kind, at least once."""
    tally = Tally("I26")
    wanted = [event.position for event in events if event.stream.startswith("crate/")]
    for name, given in delivered.items():
        tally.judged += len(wanted)
        if missed := set(wanted) - {position for _, position in given}:
            tally.wrong(f"{name} was never given {len(missed)} events, the first at {min(missed)}")
    return tally.verdict("events that followers were given")


def once_in_calm(
    events: Sequence[StoredEvent],
    begun: Mapping[str, Sequence[object]],
    delivered: Mapping[str, Sequence[tuple[str, int]]],
    calm_from: int,
) -> Verdict:
    """While nothing fails, each effect runs once for each attempt, and each event is delivered once."""
    tally = Tally("I26")
    attempts: dict[int, int] = {}
    names: dict[int, str] = {}
    for event in events:
        if event.position <= calm_from or not event.stream.startswith("effect/"):
            continue
        fact = _body(event)
        if fact["type"] == "effect_requested":
            names[fact["id"]] = f"{fact['effect']} {event.stream.removeprefix('effect/')}"
            attempts[fact["id"]] = 1
        elif fact["type"] == "effect_failed" and fact["id"] in attempts:
            attempts[fact["id"]] += 1
    for number, wanted in attempts.items():
        tally.judged += 1
        if (runs := len(begun.get(names[number], ()))) != wanted:
            tally.wrong(f"{names[number]} ran {runs} times for {wanted} attempts, in calm")
    for name, given in delivered.items():
        counts = Counter(position for _, position in given if position > calm_from)
        tally.judged += len(counts)
        if twice := [position for position, count in counts.items() if count > 1]:
            tally.wrong(f"{name} was given {len(twice)} events twice in calm, the first at {min(twice)}")
    return tally.verdict("runs and deliveries that happened once in calm")


def taken_over(events: Iterable[StoredEvent]) -> int:
    """How many effects were claimed by several incarnations."""
    by: defaultdict[int, set[str]] = defaultdict(set)
    for event in events:
        if event.type == "effect_claimed":
            fact = _body(event)
            by[fact["id"]].add(fact.get("by", ""))
    return sum(len(each) > 1 for each in by.values())
