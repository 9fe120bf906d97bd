"""Time travel of an entity's effects and timers."""

import asyncio
from typing import Any

from huahuo.actors.domain.plugin import work_subject
from huahuo.eventstore.model import StoredEvent
from huahuo.replay.history.history import ListHistory
from huahuo.replay.history.timeline import Timeline
from tests.support.worlds.bells import SetEvery, SetOnce, Tower, in_tower


def shown(events: list[StoredEvent], stream: str, position: int) -> dict[str, Any]:
    subject = work_subject(stream)
    assert subject is not None
    state: dict[str, Any] = asyncio.run(Timeline(ListHistory(events, "bells"), subject).seek(position))
    return state


def test_the_pending_timers_of_an_entity_are_shown_at_any_moment() -> None:
    found: list[StoredEvent] = []

    async def test(tower: Tower) -> None:
        await tower.do(SetOnce(60, name="once"))
        await tower.do(SetEvery(50, name="every"))
        await asyncio.sleep(70)
        found.extend(await tower.events("log"))

    in_tower(test)
    places = [event.position for event in found if event.stream == "timer/bell/b"]
    first = shown(found, "timer/bell/b", places[0])
    assert first["once"]["command"] == "ring"
    assert first["once"]["fields"] == {"how": "ring"}
    assert first["once"]["due"].endswith("Z")
    assert set(shown(found, "timer/bell/b", places[1])) == {"every", "once"}
    last = shown(found, "timer/bell/b", places[-1])
    assert (set(last), last["every"]["every_s"]) == ({"every"}, 50.0)


def test_the_open_effects_of_an_entity_are_shown() -> None:
    time = b'"timestamp":"2026-11-24T10:31:07.114Z"'
    body = b'{"type":"effect_requested",%s,"id":7,"effect":"pack","job":{}}' % time
    asked = StoredEvent(1, "effect/order/1", 1, "effect_requested", body, 1, 1, "", "", "", 0, "", b"")
    state = shown([asked], "effect/order/1", 1)
    assert state["entity"] == "order/1"
    assert state["open"]["7"]["effect"] == "pack"


def test_other_streams_are_of_no_effects() -> None:
    assert [work_subject(stream) for stream in ("order/1", "effect/order", "timer/")] == [None] * 3
