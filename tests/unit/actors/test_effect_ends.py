"""Each effect ends once; a run whose effect has ended or was taken over may say nothing more."""

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from huahuo import EffectRun, RunOver
from huahuo.actors.domain.work_specs import EntityOwners, specs_of
from huahuo.actors.effects.books import Run
from huahuo.actors.effects.facts import OpenEffect
from huahuo.actors.effects.queue import Entry
from huahuo.actors.effects.streams import Desk, EffectStreams, StreamHold
from huahuo.eventstore.ambient import FakeAmbient
from tests.support.worlds.effects import Step, Works, broken, in_works, never
from tests.support.worlds.scenario import scenario


def as_if_its_process_had_come_back(works: Works, first: EffectRun) -> EffectRun:
    """A run with the claim of `first`, which is event 2 of the books, in the present life."""
    catalog, directory = works.engine.plugin.catalog, works.engine.directory
    row = OpenEffect("parcel", "1", "carry", Raw(b"{}"), since_ms=0)
    entry = Entry(first.effect, specs_of(catalog)["parcel", "carry"], row, ("parcel", "carry", None), None)
    books = EffectStreams(works.log, directory, FakeAmbient(), EntityOwners(catalog, directory))
    desk = Desk("parcel/1", directory)
    hold = StreamHold(books, desk, entry, Run(position=0, failures=0), claim=2)
    desk.claimed(hold)
    return EffectRun(works.log, entry, hold)


@scenario(in_works)
async def test_a_run_of_an_earlier_life_may_say_nothing_once_another_has_taken_over(works: Works) -> None:
    works.script.carry = never
    await works.post()
    await asyncio.sleep(1)
    [first] = works.script.runs
    await works.crash()
    await asyncio.sleep(1)
    come_back = as_if_its_process_had_come_back(works, first)
    with pytest.raises(RunOver, match="taken over"):
        await come_back.emit(Step(9))
    await works.send("stop_parcel", parcel_id=1)


@scenario(in_works)
async def test_finish_says_the_last_events_in_the_commit_of_the_end(works: Works) -> None:
    async def carry(job: Any, run: EffectRun) -> None:
        await run.emit(Step(1))
        await run.finish(Step(2))
        with pytest.raises(RunOver, match="ended"):
            await run.emit(Step(3))

    works.script.carry = carry
    await works.post()
    await works.idle()
    assert [event.type for event in works.log.appends[-1].events] == ["effect_ended", "parcel_step"]
    assert (works.effects.ends, works.effects.opened) == ({"done": 1}, 0)


@scenario(in_works)
async def test_an_exception_after_finish_changes_nothing(works: Works) -> None:
    async def carry(job: Any, run: EffectRun) -> None:
        await run.finish(Step(2))
        raise ConnectionError

    works.script.carry = carry
    await works.post()
    await works.idle()
    assert await works.types() == ["effect_requested", "effect_claimed", "effect_ended done"]


@scenario(in_works)
async def test_a_run_that_has_returned_may_say_nothing_more(works: Works) -> None:
    await works.post()
    await works.idle()
    [run] = works.script.runs
    with pytest.raises(RunOver, match="ended"):
        await run.emit(Step(9))
    assert (await works.state()).steps == (0,)


@scenario(in_works)
async def test_a_cancelled_effect_may_say_nothing_from_the_commit_of_the_cancel_on(works: Works) -> None:
    refused: list[str] = []

    async def carry(job: Any, run: EffectRun) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                await run.emit(Step(9))
            except RunOver as over:
                refused.append(over.why)

    works.script.carry = carry
    await works.post()
    await asyncio.sleep(1)
    await works.send("stop_parcel", parcel_id=1)
    await works.idle()
    assert refused == ["cancelled"]
    assert (await works.state()).steps == ()
    assert (await works.types())[-2:] == ["effects_cancelled", "effect_ended cancelled"]


@scenario(in_works, at_once=2)
async def test_a_cancel_ends_those_that_run_wait_and_sleep_each_once(works: Works) -> None:
    works.script.carry = never
    works.script.weigh = broken
    await works.post(jobs=5)
    await works.send("carry_more", parcel_id=1, weigh=True)
    await asyncio.sleep(0.1)
    assert (works.effects.running, works.effects.waiting) == (2, 4)
    await works.send("stop_parcel", parcel_id=1)
    await works.idle()
    assert works.effects.ends == {"cancelled": 6}
    assert works.effects.opened == 0


@scenario(in_works)
async def test_a_cancel_of_one_class_leaves_the_others_alone(works: Works) -> None:
    works.script.carry = works.script.weigh = never
    await works.post()
    await works.send("carry_more", parcel_id=1, weigh=True)
    await asyncio.sleep(1)
    await works.send("stop_parcel", parcel_id=1, weigh=True)
    await asyncio.sleep(1)
    assert works.effects.running == 1
    await works.send("stop_parcel", parcel_id=1)
