"""What a firing costs, as a count of calls: it depends on the code alone, not on the machine."""

import asyncio
import sys
from types import FrameType

from tests.support.worlds.bells import SetOnce, Tower, in_tower

BELLS = 100
TIMERS_EACH = 10
CALLS_MAX = 180


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
