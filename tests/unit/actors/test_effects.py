"""Effects run after their commit, until they return, fail for good or are cancelled; each ends once.

Those that fail are tried again, and a failure for good is a command that the entity decides. A run whose
effect has ended or was taken over may say nothing more.
"""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from msgspec import Raw

from huahuo import EffectRun, Refused, RunOver, Secret
from huahuo.actors.domain.effect_streams import EffectStreams, StreamHold
from huahuo.actors.domain.plugin import EntitySettings
from huahuo.actors.domain.work_specs import specs_of
from huahuo.actors.effects.facts import OpenEffect, UnknownEffect
from huahuo.actors.effects.queue import Entry
from huahuo.eventstore.ambient import FakeAmbient
from tests.support.worlds.effects import (
    Carry,
    Step,
    Works,
    broken,
    in_works,
    never,
    one_step,
    parcels,
)
from tests.support.worlds.scenario import scenario


@scenario(in_works)
async def test_a_cancel_that_a_crash_interrupts_is_carried_out_by_the_next_life(works: Works) -> None:
    works.script.carry = never
    await works.post()
    await asyncio.sleep(1)
    works.effects.draining = True  # nobody carries out what the decision says
    await works.send("stop_parcel", parcel_id=1)
    await works.crash()
    await works.idle()
    assert (await works.types())[-1] == "effect_ended cancelled"
    assert len(works.script.runs) == 1


@scenario(in_works, at_once=3, per=lambda job: job.host)
async def test_no_more_than_at_once_run_for_each_host(works: Works) -> None:
    now: dict[str, int] = {}
    most: dict[str, int] = {}

    async def carry(job: Carry, run: EffectRun) -> None:
        now[job.host] = now.get(job.host, 0) + 1
        most[job.host] = max(most.get(job.host, 0), now[job.host])
        await asyncio.sleep(1)
        now[job.host] -= 1

    works.script.carry = carry
    for host in ("north", "south"):
        await works.post(jobs=10, host=host)
    await works.idle()
    assert most == {"north": 3, "south": 3}


@scenario(in_works, EntitySettings(effects_at_once=5, effects_waiting_max=20))
async def test_more_effects_than_memory_holds_wait_in_the_log_and_all_are_done(works: Works) -> None:
    works.script.carry = never
    await works.post(jobs=300)
    await asyncio.sleep(1)
    assert works.effects.waiting <= 20
    assert works.effects.opened == 300
    works.script.carry = one_step
    await works.crash()
    assert works.effects.waiting <= 20
    await works.idle()
    assert sorted((await works.state()).steps) == list(range(300))
    assert works.effects.opened == 0


@scenario(in_works)
async def test_a_secret_of_the_entity_reaches_the_run_and_is_gone_when_it_was_shredded(works: Works) -> None:
    seen: list[Secret | None] = []

    async def carry(job: Carry, run: EffectRun) -> None:
        seen.append(await run.secret("password"))

    works.script.weigh = carry
    await works.post()
    await works.send("carry_more", parcel_id=1, weigh=True, password="canary")
    await works.idle()
    await works.send("shred_parcel", parcel_id=1)
    await works.send("carry_more", parcel_id=1, weigh=True)
    await works.idle()
    assert seen == [Secret("canary"), None]
    assert b"canary" not in works.disk.read()


@scenario(in_works, EntitySettings(effect_bytes_max=100, decision_events_max=50))
async def test_arguments_over_the_bound_are_refused_and_nothing_is_written(works: Works) -> None:
    said = await works.send("post_parcel", text="x" * 200)
    assert (said["code"], works.log.position) == ("too_large", 0)
    assert "Carry has arguments of" in said["message"]
    assert (await works.send("post_parcel", jobs=100))["code"] == "too_large"


@scenario(in_works, EntitySettings(decision_events_max=50))
async def test_an_emit_over_the_bound_is_refused_to_the_run(works: Works) -> None:
    codes: list[str] = []

    async def carry(job: Carry, run: EffectRun) -> None:
        try:
            await run.emit(*[Step(0)] * 51)
        except Refused as refused:
            codes.append(refused.code)

    works.script.carry = carry
    await works.post()
    await works.idle()
    assert codes == ["too_large"]


@scenario(in_works)
async def test_a_start_with_an_open_effect_of_an_unknown_name_is_refused_with_the_name(works: Works) -> None:
    works.script.carry = never
    await works.post()
    await works.close(drain_s=0)
    today = parcels(works.script, carries=False)
    with pytest.raises(UnknownEffect, match=r"the effect 'carry' of parcel/1 \(number 1\) is open"):
        await works.open([today])
    await works.close()
    works.script.carry = one_step
    await works.open()


@scenario(in_works)
async def test_the_age_of_the_oldest_shows_an_effect_that_never_returns(works: Works) -> None:
    works.script.carry = never
    await works.post()
    await asyncio.sleep(3600)
    await works.crash()
    await asyncio.sleep(60)
    assert works.effects.oldest_s() == pytest.approx(3660, abs=1)
    await works.send("stop_parcel", parcel_id=1)
    await works.idle()
    assert works.effects.oldest_s() == 0


@scenario(in_works)
async def test_an_effect_that_raises_is_tried_again_later_and_later_six_times_in_all(works: Works) -> None:
    began_s: list[float] = []

    async def carry(job: Any, run: EffectRun) -> None:
        began_s.append(asyncio.get_running_loop().time())
        assert run.attempt == len(began_s)
        raise ConnectionError

    works.script.carry = carry
    await works.post()
    await works.idle()
    assert len(began_s) == 6
    waits_s = [late - soon for soon, late in pairwise(began_s)]
    for n, wait_s in enumerate(waits_s):
        assert 0.5 * 2**n <= wait_s <= 1.5 * 2**n + 0.1


@pytest.mark.parametrize("decides_failures", [True, False])
def test_a_failure_that_is_refused_or_has_no_handler_is_only_recorded(decides_failures: bool) -> None:
    async def carry(job: Any, run: EffectRun) -> None:
        raise KeyError  # which the handler refuses

    async def test(works: Works) -> None:
        works.script.carry = carry
        await works.post()
        await works.idle()
        assert (await works.state()).status == "posted"
        assert (await works.facts())[-1] == {
            "type": "effect_ended", "id": 1, "outcome": "failed", "error_type": "KeyError",
        }  # fmt: skip

    in_works(test, retries=0, decides_failures=decides_failures)


@scenario(in_works, retries=1)
async def test_the_text_of_an_exception_is_stored_nowhere(works: Works) -> None:
    works.script.carry = broken
    await works.post()
    await works.idle()
    assert b"1234" not in works.disk.read()


async def as_if_its_process_had_come_back(works: Works, first: EffectRun) -> EffectRun:
    """A run with the claim of `first`, which is event 2 of the books, in the present life."""
    catalog = works.engine.plugin.catalog
    row = OpenEffect("parcel", "1", "carry", Raw(b"{}"), since_ms=0)
    entry = Entry(first.effect, specs_of(catalog)["parcel", "carry"], row, ("parcel", "carry", None), None)
    books = EffectStreams(works.log, works.engine.directory, FakeAmbient(), catalog)
    hold = StreamHold(books, entry, asyncio.Lock())
    await hold._find()  # noqa: SLF001  what a claim does first
    hold._claim = 2  # noqa: SLF001
    return EffectRun(works.log, entry, hold)


@scenario(in_works)
async def test_a_run_of_an_earlier_life_may_say_nothing_once_another_has_taken_over(works: Works) -> None:
    works.script.carry = never
    await works.post()
    await asyncio.sleep(1)
    [first] = works.script.runs
    await works.crash()
    await asyncio.sleep(1)
    come_back = await as_if_its_process_had_come_back(works, first)
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
