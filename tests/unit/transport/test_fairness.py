"""Work is charged to the user that it is done for."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from huahuo.actors.entities.decider import Origin
from huahuo.actors.entities.entity import OTHERS_WAIT_S_MAX, Query
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Reply, json_reply
from huahuo.app.foundation import Fairness
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.executor import acting_for
from huahuo.transport.commands.gate import Gate, Paced
from huahuo.transport.load.fair_queueing import PAID_S_MAX, Turns
from huahuo.transport.load.shares import FREE_S, SHARE, Shares
from tests.support.models.faulty_log import faulty_log
from tests.support.worlds.entities import Deposit, Done, Town, in_town
from tests.support.worlds.people import ALICE
from tests.support.worlds.services import call

pytestmark = pytest.mark.virtual_time


def fair() -> Fairness:
    return Fairness(Turns(Shares(), asyncio.get_running_loop().time))


def owe(made: Fairness, user: str, seconds: float) -> None:
    """Let a user owe time while there are others."""
    made.charge("user/9", 0.001)
    made.charge(user, seconds)


async def test_what_the_service_writes_while_checks_run_is_paid_by_the_users_whose_checks_they_are() -> None:
    made = fair()
    made.at_work = [lambda: [(1, 3)], lambda: [(2, 1)]]
    owe(made, "service", 4 * FREE_S)
    assert made.wait_s(1) > 0
    assert made.wait_s(2) == 0


async def test_what_the_service_does_for_itself_is_nobodys() -> None:
    made = fair()
    owe(made, "service", 1.0)
    assert made.may_go("service")
    assert made.may_go("user/1")


def test_a_command_of_a_user_over_its_share_waits_while_others_pass() -> None:
    async def test(town: Town) -> None:
        loop = asyncio.get_running_loop()
        owe(town.fairness, "user/1", FREE_S + 1.0)
        slow = asyncio.ensure_future(town.execute("a", Deposit(5), Origin("user/1")))
        assert (await town.execute("b", Deposit(5), Origin("user/2"))).reply == Done(5)
        assert not slow.done()
        began_s = loop.time()
        assert (await slow).reply == Done(5)
        assert 1.0 < loop.time() - began_s < PAID_S_MAX

    in_town(test)


def test_the_answer_to_a_question_is_charged_to_the_user_that_asks_it() -> None:
    async def test(town: Town) -> None:
        def look(_seq: int, _state: object) -> None:
            town.ambient.advance(FREE_S + 1.0)

        owe(town.fairness, "user/1", 0.0)
        await town.directory.ask("account", "a", Query(look))
        assert town.fairness.wait_s(1) == 0, "the service asked"
        with acting_for("user/1"):
            await town.directory.ask("account", "a", Query(look))
        assert town.fairness.wait_s(1) >= 1.0

    in_town(test)


def test_a_command_does_not_wait_for_ever_however_much_its_user_owes() -> None:
    async def test(town: Town) -> None:
        for user in range(1, 101):
            owe(town.fairness, f"user/{user}", 2.0)
        began_s = asyncio.get_running_loop().time()
        await town.execute("a", Deposit(5), Origin("user/1"))
        assert asyncio.get_running_loop().time() - began_s <= PAID_S_MAX + 0.1

    in_town(test)


def test_however_much_of_a_user_waits_an_entity_holds_up_others_for_five_seconds_at_most() -> None:
    async def test(town: Town) -> None:
        loop = asyncio.get_running_loop()

        async def piece() -> None:
            await town.fairness.paid("user/1")
            owe(town.fairness, "user/1", 2.0)

        owe(town.fairness, "user/1", 2.0)
        pieces = [asyncio.ensure_future(piece()) for _ in range(20)]
        await asyncio.sleep(0)
        first = asyncio.ensure_future(town.execute("a", Deposit(5), Origin("user/1")))
        await asyncio.sleep(0)
        began_s = loop.time()
        assert (await town.execute("a", Deposit(5), Origin("user/2"))).reply == Done(10)
        assert loop.time() - began_s <= OTHERS_WAIT_S_MAX + 0.1
        assert (await first).reply == Done(5)
        await asyncio.gather(*pieces)

    in_town(test)


def test_where_nobody_else_asks_a_command_waits_behind_what_its_user_asked_before() -> None:
    async def test(town: Town) -> None:
        went: list[str] = []

        async def piece() -> None:
            await town.fairness.paid("user/1")
            owe(town.fairness, "user/1", 2.0)
            went.append("piece")

        owe(town.fairness, "user/1", 2.0)
        pieces = [asyncio.ensure_future(piece()) for _ in range(3)]
        await asyncio.sleep(0)
        await town.execute("a", Deposit(5), Origin("user/1"))
        assert went == ["piece"] * 3
        await asyncio.gather(*pieces)

    in_town(test)


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
