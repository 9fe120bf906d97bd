"""What a handler does is charged to its user, and it goes on only when its user has paid for that."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Reply, json_reply
from huahuo.app.ground import Fairness
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.executor import acting_for
from huahuo.transport.commands.gate import Gate, Paced
from huahuo.transport.load.fair_queueing import Turns
from huahuo.transport.load.shares import FREE_S, SHARE, Shares
from tests.support.models.faulty_log import faulty_log
from tests.support.worlds.people import ALICE
from tests.support.worlds.services import call

pytestmark = pytest.mark.virtual_time

DONE = json_reply({"type": "success"})
USER = ALICE.name


class World:
    """A clock on which work takes time, and shares. Another user is active, too."""

    def __init__(self) -> None:
        self._worked_s = 0.0
        self.fairness = Fairness(Turns(Shares(), self.now_s))
        self.fairness.charge("user/9", 0.001)

    def now_s(self) -> float:
        return asyncio.get_running_loop().time() + self._worked_s

    def work(self, seconds: float) -> None:
        """Hold the loop for this long."""
        self._worked_s += seconds

    def paced(self, work: Any) -> Paced[Any]:
        return Paced(work, USER, self.fairness, self.now_s)

    async def do(self, query: Callable[[Call[Any]], Any]) -> Reply:
        """Answer a query at a gate."""
        ambient = FakeAmbient()
        ambient.monotonic_s = self.now_s  # type: ignore[method-assign]
        gate = Gate(await faulty_log(), ambient, fairness=self.fairness)
        return await gate.execute(call(), Action("ask", dict, query, query=True))


async def test_every_step_of_a_query_is_charged_to_the_user_who_asked() -> None:
    world = World()

    async def query(_call: Call[Any]) -> Reply:
        for _ in range(2):
            world.work(FREE_S)
            await asyncio.sleep(0.001)
        return DONE

    charged_s: list[float] = []
    world.fairness.charge = lambda principal, spent_s: charged_s.append(  # type: ignore[method-assign]
        spent_s * (principal == USER)
    )
    assert await world.do(query) == DONE
    assert sum(charged_s) == pytest.approx(2 * FREE_S)


async def test_a_query_inside_paced_work_of_its_user_is_charged_once() -> None:
    world = World()
    charged_s: list[float] = []
    world.fairness.charge = lambda principal, spent_s: charged_s.append(  # type: ignore[method-assign]
        spent_s * (principal == USER)
    )

    async def query(_call: Call[Any]) -> Reply:
        world.work(FREE_S)
        return DONE

    with acting_for(USER):
        assert await world.paced(world.do(query)) == DONE
    assert sum(charged_s) == pytest.approx(FREE_S)


async def test_where_a_query_gives_way_it_goes_on_once_its_user_owes_no_more_than_is_free() -> None:
    world, loop = World(), asyncio.get_running_loop()
    steps_at_s: list[float] = []

    async def query(_call: Call[Any]) -> Reply:
        for _ in range(4):
            steps_at_s.append(loop.time())
            world.work(2 * FREE_S)
            await asyncio.sleep(0)
        return DONE

    began_s = loop.time()
    await world.do(query)
    assert loop.time() - began_s >= (4 * 2 * FREE_S - FREE_S) / SHARE - 4 * 2 * FREE_S
    assert len(set(steps_at_s)) == 4


async def test_a_query_of_a_user_that_is_alone_never_waits() -> None:
    world = World()
    world.fairness = Fairness(Turns(Shares(), world.now_s))
    began_s = asyncio.get_running_loop().time()

    async def query(_call: Call[Any]) -> Reply:
        for _ in range(100):
            world.work(FREE_S)
            await asyncio.sleep(0)
        return DONE

    await world.do(query)
    assert asyncio.get_running_loop().time() == began_s


async def test_where_work_waits_for_something_it_holds_no_lock_longer_than_that() -> None:
    world, lock = World(), asyncio.Lock()

    async def work() -> None:
        async with lock:
            world.work(10 * FREE_S)
            await asyncio.sleep(0.001)

    began_s = asyncio.get_running_loop().time()
    working = asyncio.ensure_future(_await(world.paced(work())))
    await asyncio.sleep(0)
    async with lock:
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(0.001)
    await working


async def test_work_that_is_cancelled_while_its_user_owes_time_does_no_further_step() -> None:
    world, steps = World(), 0

    async def work() -> None:
        nonlocal steps
        while True:
            steps += 1
            world.work(10 * FREE_S)
            await asyncio.sleep(0)

    working = asyncio.ensure_future(_await(world.paced(work())))
    await asyncio.sleep(0.001)
    assert steps == 1
    working.cancel()
    await asyncio.sleep(10)
    assert working.cancelled()
    assert steps == 1


async def test_the_work_hears_its_cancellation_and_may_answer_it() -> None:
    world = World()

    async def work() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "cleaned up"
        return ""

    working = asyncio.ensure_future(_await(world.paced(work())))
    await asyncio.sleep(1)
    working.cancel()
    assert await working == "cleaned up"


async def test_a_fault_of_the_work_is_its_callers() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await World().paced(work())


async def _await(work: Any) -> Any:
    return await work


async def test_work_that_is_only_paid_for_does_not_wait_where_it_gives_way() -> None:
    world = World()

    async def send() -> float:
        world.work(10 * FREE_S)
        await asyncio.sleep(0)
        return world.now_s()

    ended_s = await Paced(send(), USER, world.fairness, world.now_s, waits=False)
    assert ended_s == pytest.approx(10 * FREE_S)
    assert not world.fairness.may_go(USER), "it is paid for all the same"
