"""Turns at an executor: a user's thousand reads delay another user's read by one turn."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from huahuo.eventstore.errors import QueueFull
from huahuo.eventstore.executor import TURN_S, FairExecutor, acting_for


class SlowExecutor:
    """Runs its jobs once `release` is set; `begun` counts the jobs that it received."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.begun = 0

    async def run[T](self, job: Callable[[], T]) -> T:
        self.begun += 1
        await self.release.wait()
        return job()

    def close(self, *, wait: bool = True) -> None:
        """Nothing to free."""


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Jobs:
    """Jobs of users over a `FairExecutor`; `ran` holds the users in the order in which their jobs ran."""

    def __init__(self, **options: Any) -> None:
        self.slow = SlowExecutor()
        self.fair = FairExecutor(self.slow, at_once=1, **options)
        self.ran: list[str] = []

    def start(self, user: str, count: int = 1) -> list[asyncio.Task[None]]:
        return [asyncio.ensure_future(self._one(user)) for _ in range(count)]

    async def _one(self, user: str) -> None:
        with acting_for(user):
            await self.fair.run(partial(self.ran.append, user))


@pytest.mark.parametrize("jobs_a_turn", [1, 4])
async def test_a_backlog_delays_another_users_job_by_one(jobs_a_turn: int) -> None:
    jobs = Jobs(jobs_a_turn=jobs_a_turn)
    tasks = jobs.start("user/1", 50)
    await settle()
    tasks += jobs.start("user/2")
    await settle()
    assert (jobs.slow.begun, jobs.fair.waiting) == (1, 50)
    jobs.slow.release.set()
    await asyncio.gather(*tasks)
    assert jobs.ran.index("user/2") <= 1 + jobs_a_turn
    assert (jobs.fair.waiting, len(jobs.ran)) == (0, 51)


async def test_a_user_with_too_many_jobs_waiting_is_refused_and_others_are_not() -> None:
    jobs = Jobs(waiting_per_user_max=3)
    tasks = jobs.start("user/1", 4)
    await settle()
    with pytest.raises(QueueFull, match=r"user/1 .* try again later"):
        await jobs.start("user/1")[0]
    tasks += jobs.start("user/2", 3)
    await settle()
    jobs.slow.release.set()
    await asyncio.gather(*tasks)
    assert jobs.fair.refused == 1


async def test_where_all_together_have_too_much_waiting_a_user_still_has_an_even_share() -> None:
    jobs = Jobs(waiting_per_user_max=10, waiting_max=6)
    tasks = jobs.start("user/1", 7)
    await settle()
    [another] = jobs.start("user/1")
    await settle()
    assert isinstance(another.exception(), QueueFull)
    tasks += jobs.start("user/2", 3)
    await settle()
    assert jobs.fair.waiting == 9
    jobs.slow.release.set()
    await asyncio.gather(*tasks)


async def test_a_turn_that_took_long_leaves_the_rest_first_in_line() -> None:
    now_s, ran = 0.0, list[int]()
    jobs = Jobs(jobs_a_turn=4, now_s=lambda: now_s)

    def job(number: int) -> None:
        nonlocal now_s
        now_s += TURN_S * 0.6
        ran.append(number)

    tasks = [asyncio.ensure_future(jobs.fair.run(partial(job, number))) for number in range(7)]
    await settle()
    jobs.slow.release.set()
    await asyncio.gather(*tasks)
    assert ran == list(range(7))
    assert jobs.slow.begun == 1 + 3, "the first alone, then six in turns of two"
    assert (jobs.fair.waiting, jobs.fair.free) == (0, 1)


async def test_a_job_that_fails_fails_alone_and_is_let_go_of() -> None:
    jobs, seen = Jobs(jobs_a_turn=4), list[weakref.ref[Jobs]]()

    def fail() -> None:
        of_the_job = Jobs()
        seen.append(weakref.ref(of_the_job))
        raise ValueError("this one")

    tasks: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(jobs.fair.run(job)) for job in (lambda: 0, lambda: 1, lambda: 2, fail)
    ]
    await settle()
    jobs.slow.release.set()
    gc.disable()
    try:
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(one) for one in found] == ["0", "1", "2", "this one"]
        tasks.clear()
        found.clear()
        await settle()
        assert [one() for one in seen] == [None], "no cycle holds what a job saw"
    finally:
        gc.enable()


async def test_when_the_executor_has_ended_each_job_that_waits_is_told() -> None:
    jobs = Jobs(jobs_a_turn=4)
    tasks = jobs.start("user/1", 6)
    await settle()

    async def ended(_job: object) -> None:
        raise RuntimeError("the executor is closed")

    jobs.slow.run = ended  # type: ignore[method-assign,assignment]
    jobs.slow.release.set()
    await tasks[0]
    tasks.pop().cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(one) for one in found[1:]] == ["the executor is closed"] * 4
    assert len({id(one) for one in found[1:]}) == 4
    assert (jobs.fair.waiting, jobs.fair.free) == (0, 1)


async def test_the_processor_time_of_a_turn_is_charged_to_its_user() -> None:
    jobs = Jobs(jobs_a_turn=4)
    clock = iter((0.0, 0.5, 10.0, 12.0))
    paid: list[tuple[str, float]] = []
    jobs.fair.bill(lambda user, spent_s: paid.append((user, spent_s)), lambda: next(clock))
    tasks = jobs.start("user/1", 4)
    await settle()
    jobs.slow.release.set()
    await asyncio.gather(*tasks)
    assert paid == [("user/1", 0.5), ("user/1", 2.0)]
