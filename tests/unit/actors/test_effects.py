"""Effects run after their commit, until they return, fail for good or are cancelled; each ends once."""

import asyncio
from typing import Any

import pytest

from huahuo import EffectRun, Refused, Secret
from huahuo.actors.domain.plugin import EntitySettings
from huahuo.actors.effects.facts import UnknownEffect
from tests.support.worlds.effects import Carry, Parcel, Step, Works, in_works, never, one_step, parcels
from tests.support.worlds.scenario import scenario


@scenario(in_works)
async def test_an_effect_is_asked_for_claimed_and_ended_on_a_stream_of_its_own(works: Works) -> None:
    await works.post(host="north")
    await works.idle()
    asked, claimed, ended = await works.facts()
    job = {"n": 0, "host": "north"}
    assert asked == {"type": "effect_requested", "id": 1, "effect": "carry", "job": job, "user": 42}
    assert claimed == {"type": "effect_claimed", "id": 1}
    assert ended == {"type": "effect_ended", "id": 1, "outcome": "done", "error_type": ""}
    assert [body["type"] for body in await works.engine.bodies("parcel/1")] == [
        "parcel_posted", "parcel_step",
    ]  # fmt: skip
    assert await works.open_rows() == 0


@scenario(in_works)
async def test_the_request_and_its_row_are_in_the_commit_of_the_decision(works: Works) -> None:
    await works.post(jobs=2)
    first = works.log.appends[0]
    assert [event.stream for event in first.events] == ["parcel/1", "effect/parcel/1", "effect/parcel/1"]
    assert len(first.rows) == 2


@scenario(in_works)
async def test_a_run_knows_its_entity_its_job_and_its_state_after_each_emit(works: Works) -> None:
    seen: list[Any] = []

    async def carry(job: Any, run: EffectRun) -> None:
        seen.extend((run.id, run.job == job, run.attempt, run.state))
        await run.emit(Step(1), Step(2))
        seen.append(run.state)

    works.script.carry = carry
    await works.post()
    await works.idle()
    assert seen == [1, True, 1, Parcel((), "posted"), Parcel((1, 2), "posted")]
    assert len([append for append in works.log.appends if len(append.events) == 2]) == 2, "one commit"


@scenario(in_works)
async def test_what_is_emitted_is_caused_by_the_event_that_asked_for_the_effect(works: Works) -> None:
    await works.post()
    await works.idle()
    log = await works.log.read("log", 0, events_max=99)
    [asked] = [event for event in log if event.type == "effect_requested"]
    causes = {event.type: event.cause for event in log}
    assert causes["parcel_step"] == causes["effect_ended"] == asked.position


@scenario(in_works)
async def test_others_that_write_in_between_do_not_stop_an_emit(works: Works) -> None:
    async def carry(job: Any, run: EffectRun) -> None:
        for n in range(5):
            await works_of[0].send("poke_parcel", parcel_id=1)
            await works_of[0].send("carry_more", parcel_id=1, weigh=True)
            await run.emit(Step(100 + n))

    works_of: list[Works] = []
    works_of.append(works)
    works.script.carry = carry
    await works.post()
    await works.idle()
    steps = (await works.state()).steps
    assert [n for n in steps if n] == [100, 101, 102, 103, 104]


@scenario(in_works)
async def test_a_crash_repeats_a_run_and_counts_for_none(works: Works) -> None:
    works.script.carry = never
    await works.post()
    await asyncio.sleep(1)
    await works.crash()
    await asyncio.sleep(1)
    assert [run.attempt for run in works.script.runs] == [1, 1]
    await works.close()
    works.script.carry = one_step
    await works.open()
    await works.idle()
    assert [run.attempt for run in works.script.runs] == [1, 1, 1]
    assert await works.types() == [
        "effect_requested", "effect_claimed", "effect_claimed", "effect_claimed", "effect_ended done",
    ]  # fmt: skip


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
async def test_an_effect_whose_commit_had_an_unknown_outcome_is_found_by_a_sweep(works: Works) -> None:
    works.log.lose = ["after"]
    with pytest.raises(Exception, match="lost after"):
        await works.post()
    await asyncio.sleep(40)
    await works.idle()
    assert (await works.state()).steps == (0,)


@scenario(in_works)
async def test_a_stop_waits_for_what_runs_and_leaves_open_what_does_not_end_in_time(works: Works) -> None:
    async def carry(job: Carry, run: EffectRun) -> None:
        await asyncio.sleep(2 if job.n == 0 else 100)
        await run.emit(Step(job.n))

    works.script.carry = carry
    await works.post(jobs=2)
    await asyncio.sleep(1)
    await works.close(drain_s=5)
    await works.open()
    assert (await works.state()).steps == (0,)
    assert [fact["id"] for fact in await works.facts() if fact["type"] == "effect_ended"] == [1]
    await works.idle()
    assert (await works.state()).steps == (0, 1)
    assert works.script.runs[-1].attempt == 1


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
