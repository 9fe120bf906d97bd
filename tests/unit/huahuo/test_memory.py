"""After a storm, memory is tidied up once the loop is idle, and never for long."""

import asyncio

import pytest

from huahuo.app.process import TIDY_LOOK_S, Tidier

pytestmark = pytest.mark.virtual_time


class Machine:
    """Processor time that a test spends, and what the tidier did about it."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.worked_s = 0.0
        self.pause_s = pause_s
        self.paused_s = 0.0
        self.collected = 0
        self.released = 0
        self.let_go = 0

    def forget(self) -> None:
        self.let_go += 1

    def collect(self) -> None:
        self.collected += 1
        self.paused_s += self.pause_s

    def release(self) -> None:
        self.released += 1

    def tidier(self, *, collects: bool = True) -> Tidier:
        loop = asyncio.get_running_loop()
        return Tidier(
            loop,
            collects=collects,
            let_go=self.forget,
            collect=self.collect,
            release=self.release,
            worked_s=lambda: self.worked_s,
            now_s=lambda: loop.time() + self.paused_s,
        )

    async def work(self, seconds: float, share: float) -> None:
        for _ in range(int(seconds / TIDY_LOOK_S)):
            self.worked_s += share * TIDY_LOOK_S
            await asyncio.sleep(TIDY_LOOK_S)


async def test_collections_take_at_most_a_hundredth_of_the_time() -> None:
    machine = Machine(pause_s=2.0)
    with machine.tidier():
        for _ in range(60):
            await machine.work(10, 0.9)
            await machine.work(50, 0.0)
    assert machine.paused_s <= 3600 / 100 + 2
