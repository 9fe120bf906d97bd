"""Effects that fail are tried again, and a failure for good is a command that the entity decides."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from huahuo import EffectRun
from tests.support.worlds.effects import Works, broken, in_works, one_step
from tests.support.worlds.scenario import scenario


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


@scenario(in_works, retries=2)
async def test_a_final_failure_is_a_command_that_the_entity_decides_in_the_commit_of_the_end(
    works: Works,
) -> None:
    works.script.carry = broken
    await works.post()
    await works.idle()
    lost = (await works.engine.bodies("parcel/1"))[-1]
    assert lost == {
        "type": "parcel_lost", "effect": "carry", "error_type": "ConnectionError", "attempts": 3,
    }  # fmt: skip
    assert [event.type for event in works.log.appends[-1].events] == ["effect_ended", "parcel_lost"]
    assert (await works.facts())[-1]["outcome"] == "failed"


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


@scenario(in_works, retries=3)
async def test_a_clock_that_is_set_back_by_a_day_holds_up_no_retry(works: Works) -> None:
    tried = asyncio.Event()

    async def fail(_job: Any, _run: EffectRun) -> None:
        tried.set()
        raise ConnectionError

    works.script.carry = fail
    await works.post()
    await tried.wait()
    await asyncio.sleep(0.1)
    works.wrong_ms = -86_400_000
    works.script.carry = one_step
    await works.crash()
    await asyncio.sleep(30)
    assert await works.open_rows() == 0


@scenario(in_works, retries=0)
async def test_a_log_that_does_not_answer_counts_for_no_failure(works: Works) -> None:
    await works.post()
    works.log.lose = ["before", "after", "before"]
    await works.idle()
    assert (await works.facts())[-1]["outcome"] == "done"
    assert {run.attempt for run in works.script.runs} == {1}
