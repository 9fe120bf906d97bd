"""A simulated world: network, clock and chance from one seed (simloop)."""

import asyncio
from typing import Any

from simloop import SimLoop

from huahuo.eventstore.ambient import FakeAmbient

EPOCH_MS = 1_790_000_000_000


class SimAmbient(FakeAmbient):
    """The simulated clock, and chance from a seed."""

    def now_ms(self) -> int:
        return EPOCH_MS + round(self.monotonic_s() * 1000)

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


def run(world: Any, seed: int) -> str:
    """Run `world(loop)` on a loop of this seed; the hash of everything that happened."""
    loop = SimLoop(seed)
    try:
        loop.run_until_complete(world(loop))
        return loop.trace_hash()
    finally:
        loop.run_until_complete(end_everything(loop))
        loop.close()


async def end_everything(loop: SimLoop) -> None:
    """Let every machine's tasks end while there still is a world to end in."""
    mine = asyncio.current_task()
    rest = [task for task in asyncio.all_tasks(loop) if task is not mine]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.sleep(3)
