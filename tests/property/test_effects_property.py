"""Every effect ends exactly once, whatever crashes, is cancelled, fails, or is lost on the way."""

import asyncio
import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from huahuo import EffectRun
from huahuo.actors.domain.plugin import EntitySettings
from huahuo.eventstore.errors import EventStoreError
from tests.support.proofs import examples
from tests.support.worlds.effects import Step, Works, in_works, one_step

steps = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 4)),
    st.tuples(st.just("stop"), st.booleans()),
    st.tuples(st.just("wait"), st.floats(0.001, 5)),
    st.tuples(st.just("crash"), st.none()),
    st.tuples(st.just("restart"), st.floats(0, 2)),
    st.tuples(st.just("lose"), st.lists(st.sampled_from(["", "before", "after"]), max_size=3)),
)
deeds = st.lists(st.sampled_from(["return", "raise", "long", "say", "finish"]), min_size=1, max_size=6)


async def asked(works: Works, action: str, **fields: Any) -> None:
    """A command whose outcome may be unknown."""
    with contextlib.suppress(EventStoreError):
        await works.send(action, **fields)


@given(story=st.lists(steps, min_size=3, max_size=12), deeds=deeds)
@settings(max_examples=examples(60), deadline=None)
def test_every_effect_ends_once_over_crashes_cancels_and_failures(
    story: list[tuple[str, Any]], deeds: list[str]
) -> None:
    async def carry(job: Any, run: EffectRun) -> None:
        match deeds[len(works_of[0].script.runs) % len(deeds)]:
            case "raise":
                raise ConnectionError
            case "long":
                await asyncio.sleep(3)
                await run.emit(Step(job.n))
            case "say":
                await run.emit(Step(job.n))
                await run.emit(Step(job.n))
            case "finish":
                await run.finish(Step(job.n))
            case _:
                await asyncio.sleep(0)

    works_of: list[Works] = []

    async def test(works: Works) -> None:
        works_of.append(works)
        works.script.carry = works.script.weigh = carry
        await works.post(jobs=2)
        for what, how in story:
            match what:
                case "ask":
                    await asked(works, "carry_more", parcel_id=1, jobs=how, weigh=how % 2 == 0)
                case "stop":
                    await asked(works, "stop_parcel", parcel_id=1, weigh=how)
                case "wait":
                    await asyncio.sleep(how)
                case "crash":
                    await works.crash()
                case "restart":
                    await works.close(drain_s=how)
                    await works.open()
                case "lose":
                    works.log.lose = how
        works.log.lose = []
        works.script.carry = works.script.weigh = one_step
        await asyncio.sleep(40)  # a sweep finds what an append of unknown outcome has left
        await works.idle()

    in_works(test, EntitySettings(effects_at_once=3, effects_waiting_max=4), retries=1, at_once=2)
