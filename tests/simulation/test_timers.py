"""A power cut at every commit of a timer's life: each due time fires once, and none is lost."""

import asyncio
import contextlib

import pytest

from huahuo.eventstore.model import Append
from tests.support.worlds.bells import Hang, SetEvery, SetOnce, Silence, Tower, in_tower

COMMITS = 18


async def scenario(tower: Tower) -> None:
    """Timers of two bells that fire, are refused, set others, are replaced and cancelled."""
    await tower.do(Hang(), "c")
    await tower.do(SetOnce(10, name="once"))
    await tower.do(SetEvery(7, name="every"))
    await tower.do(SetOnce(10, name="chain", how="again"), "c")
    await tower.do(SetOnce(12, name="refused", how="refuse"), "c")
    await tower.do(SetOnce(20, name="once"))
    await asyncio.sleep(35)
    await tower.do(Silence())
    await tower.do(SetOnce(5, name="last"))
    await asyncio.sleep(20)


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("commit", range(COMMITS))
def test_a_crash_at_this_commit_loses_no_timer_and_fires_none_twice(commit: int, written: bool) -> None:
    async def test(tower: Tower) -> None:
        cut, first = asyncio.Event(), len(tower.log.appends)

        async def at_commit(append: Append) -> None:
            if len(tower.log.appends) - first == commit + 1:
                if written:
                    await tower.log.append_soundly(append)
                cut.set()
                await asyncio.Event().wait()

        tower.log.before_append = at_commit
        playing = asyncio.create_task(scenario(tower))
        cutting = asyncio.create_task(cut.wait())
        await asyncio.wait({playing, cutting}, return_when=asyncio.FIRST_COMPLETED)
        assert cut.is_set(), f"the scenario has more than {commit} commits"
        for task in (playing, cutting):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        before = {timer.id for timer in await tower.pending()}
        await tower.again()
        await tower.judge()
        assert {timer.id for timer in await tower.pending()} >= before, "what was durable is there"
        await asyncio.sleep(40)
        await tower.judge()
        assert all(timer.due_ms > tower.clock.now_ms() - 1_000 for timer in await tower.pending())
        assert before <= {event.command_id for event in await tower.fired()}, "and each has fired"

    in_tower(test, commit)
