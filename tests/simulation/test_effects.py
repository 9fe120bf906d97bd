"""Effects over a power cut in the middle of each commit of their lives."""

import asyncio
import contextlib
from typing import Any

import pytest

from huahuo import EffectRun
from huahuo.eventstore.errors import Unavailable
from huahuo.testing.world import run_virtual
from tests.support.worlds.effects import Behaviour, Step, Works

STEPS = 3


async def carry(job: Any, run: EffectRun) -> None:
    """Go on where the state says, fail once, say three things."""
    for n in range(len(run.state.steps), STEPS):
        await run.emit(Step(n))
    if run.attempt == 1:
        raise ConnectionError


async def carry_at_once(job: Any, run: EffectRun) -> None:
    """Look at nothing, and say it with the end."""
    await run.finish(*map(Step, range(STEPS)))


async def lives(cut_at: int | None, seed: int, work: Behaviour = carry) -> int:
    """One parcel from its order to its end, with a power cut in the commit `cut_at`. How many there were.

    Chance says whether that commit survived.
    """
    works = Works(seed=seed, retries=1)
    works.script.carry = work
    await works.open()
    commits = 0

    def count(_append: object) -> None:
        nonlocal commits
        if commits == cut_at:
            works.disk.cut_in_sync = True
        commits += 1

    works.log.before_append = count
    cut_first = pytest.raises(Unavailable) if cut_at == 0 else contextlib.nullcontext()
    with cut_first:
        await works.post()
    if cut_at is not None:
        await asyncio.sleep(2)  # longer than the back-off: the commit was tried
        assert commits > cut_at
        await works.crash()
        if not works.log.head("parcel/1").seq:
            await works.post()
    await works.idle()
    await works.sound()
    assert (await works.state()).steps == (0, 1, 2)
    assert (await works.types())[-1] == "effect_ended done"
    await works.close()
    return commits


@pytest.mark.parametrize("seed", range(4))
def test_each_step_happens_once_over_a_power_cut_in_any_commit(seed: int) -> None:
    whole = run_virtual(lives(None, seed))
    assert whole == 8, "the order, two claims, three steps, one failure and the end"
    for cut_at in range(whole):
        run_virtual(lives(cut_at, seed))


@pytest.mark.parametrize("seed", range(4))
def test_what_is_said_with_the_end_happens_once_over_a_power_cut_in_any_commit(seed: int) -> None:
    whole = run_virtual(lives(None, seed, carry_at_once))
    assert whole == 3, "the order, one claim, and the end with its steps"
    for cut_at in range(whole):
        run_virtual(lives(cut_at, seed, carry_at_once))
