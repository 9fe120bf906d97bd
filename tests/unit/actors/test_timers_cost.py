"""What a firing costs, as a count of calls: it depends on the code alone, not on the machine."""

import asyncio
import gc
import sys
from types import FrameType
from typing import Any

from huahuo.actors.entities.decider import Decision
from tests.support.worlds.bells import SetOnce, Tower, in_tower

BELLS = 100
TIMERS_EACH = 10
CALLS_MAX = 185


def test_a_firing_of_a_shared_append_takes_few_calls() -> None:
    calls = 0

    def count(_frame: FrameType, what: str, _of: object) -> None:
        nonlocal calls
        calls += what in ("call", "c_call")

    async def test(tower: Tower) -> None:
        nonlocal calls
        for number in range(BELLS):
            await tower.hang(f"b{number}")
            for one in range(TIMERS_EACH):
                await tower.do(SetOnce(1000, name=f"n{one}"), f"b{number}")
        sys.setprofile(count)
        try:
            await asyncio.sleep(1100)
        finally:
            sys.setprofile(None)
        assert sum([len(await tower.rings(f"b{number}")) for number in range(BELLS)]) == BELLS * TIMERS_EACH

    in_tower(test)
    assert calls / (BELLS * TIMERS_EACH) <= CALLS_MAX


def test_an_append_of_firings_keeps_none_of_their_decisions() -> None:
    """Else the collector looks at each part of hundreds of them, which was a twelfth of a firing's cost."""
    kept: list[int] = []

    async def test(tower: Tower) -> None:
        for number in range(BELLS):
            await tower.hang(f"b{number}")
            await tower.do(SetOnce(1000), f"b{number}")
        submit, before = tower.log.submit, _decisions()

        def counting(append: Any, **more: Any) -> Any:
            if len(append.events) >= BELLS:
                kept.append(_decisions() - before)
            return submit(append, **more)

        tower.log.submit = counting  # type: ignore[method-assign]
        await asyncio.sleep(1100)

    in_tower(test)
    assert kept
    assert max(kept) <= 1, "the last one, which its own step still has"


def _decisions() -> int:
    return sum(type(one) is Decision for one in gc.get_objects())
