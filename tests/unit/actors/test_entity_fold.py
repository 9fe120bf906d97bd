"""The state of an application's entity from its events: old versions, unknown types, keyframes."""

from typing import Any

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace

from huahuo import Entity, Event
from huahuo.actors.domain.fold import EntityFold
from huahuo.actors.domain.structs import Fault
from huahuo.eventstore.model import Append, NewEvent
from huahuo.replay.history.keyframe_writer import KeyframeWriter
from huahuo.replay.history.keyframes import KeyframePolicy, load
from tests.support.models.faulty_log import FaultyLog, faulty_log


class Counted(Event, type="counted"):
    by: int


class Counter(Struct, frozen=True):
    total: int = 0


def counters(version: int = 1, factor: int = 1) -> Entity[Counter]:
    counter = Entity("counter", Counter, version=version)
    if factor == 1:

        @counter.evolve
        def counted(state: Counter, event: Counted) -> Counter:
            return replace(state, total=state.total + event.by)
    else:

        @counter.evolve
        def doubled(state: Counter, event: Counted) -> Counter:
            return replace(state, total=state.total + 2 * event.by)

    return counter


async def counted(log: FaultyLog, **fields: object) -> None:
    body = msgspec.json.encode({"type": "counted", "timestamp": "2026-11-24T10:31:07.114Z", **fields})
    await log.append(Append(ts_ms=1, events=(NewEvent("counter/1", "counted", body),)))


async def total(log: FaultyLog, counter: Entity[Counter]) -> int:
    found = (await load(log, "counter/1", EntityFold(counter))).state.state
    assert isinstance(found, Counter)
    return found.total


@pytest.mark.virtual_time
async def test_events_of_an_older_version_go_through_every_step_and_stay_as_they_are_stored() -> None:
    log = await faulty_log()
    await counted(log, amount=1)
    newest = counters(version=3)
    newest.upcast("counted", from_version=1)(lambda fields: {"n": fields["amount"] * 10})
    newest.upcast("counted", from_version=2)(lambda fields: {"by": fields["n"] + 1})
    assert await total(log, newest) == 11
    [event] = await log.read("counter/1", 0, events_max=9)
    assert (event.version, b'"amount":1' in event.body) == (1, True)


@pytest.mark.virtual_time
async def test_an_event_in_todays_version_has_its_time_although_no_step_returns_it() -> None:
    log = await faulty_log()
    await counted(log, amount=1)
    newest = counters(version=3)
    newest.upcast("counted", from_version=1)(lambda fields: {"n": fields["amount"]})
    newest.upcast("counted", from_version=2)(lambda fields: {"by": fields["n"], "timestamp": "now"})
    [stored] = await log.read("counter/1", 0, events_max=1)
    today = EntityFold(newest).current(stored)
    assert today.body == b'{"type":"counted","timestamp":"2026-11-24T10:31:07.114Z","by":1}'


@pytest.mark.virtual_time
async def test_an_upcast_that_returns_nothing_is_named() -> None:
    def forgetful(fields: dict[str, Any]) -> None:
        fields["by"] = fields["amount"]

    log = await faulty_log()
    await counted(log, amount=1)
    newest = counters(version=2)
    newest.upcast("counted", from_version=1)(forgetful)  # type: ignore[arg-type]
    with pytest.raises(Fault, match="forgetful returns NoneType: return the fields, a dict") as raised:
        await total(log, newest)
    assert str(raised.value).startswith(f"{__file__}:")


@pytest.mark.parametrize("changed", ["version", "handler", "upcast"])
@pytest.mark.virtual_time
async def test_a_keyframe_is_valid_for_the_code_that_made_it(changed: str) -> None:
    log = await faulty_log()
    await counted(log, by=1)
    fold = EntityFold(counters())
    frames = KeyframeWriter(log, KeyframePolicy())
    held = (await load(log, "counter/1", fold)).state
    held.state = Counter(100)  # so that a keyframe can be told from a fold
    frames.offer("counter/1", fold, 1, held)
    await frames.flush()
    assert await total(log, counters()) == 100
    other = counters(version=2 if changed != "handler" else 1, factor=2 if changed == "handler" else 1)
    if changed == "upcast":
        other.upcast("counted", from_version=1)(lambda fields: {"by": fields["by"] * 5})
    assert await total(log, other) == {"version": 1, "handler": 2, "upcast": 5}[changed]
