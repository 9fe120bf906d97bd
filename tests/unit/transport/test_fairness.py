"""Work is charged to the user that it is done for."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from huahuo.actors.entities.decider import Origin
from huahuo.actors.entities.entity import OTHERS_WAIT_S_MAX
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Reply, json_reply
from huahuo.app.foundation import Fairness
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.transport.commands.gate import Gate, Paced
from huahuo.transport.load.fair_queueing import PAID_S_MAX, Turns
from huahuo.transport.load.shares import FREE_S, SHARE, Shares
from tests.support.models.faulty_log import faulty_log
from tests.support.worlds.entities import Deposit, Done, Town, in_town
from tests.support.worlds.people import ALICE
from tests.support.worlds.services import call

pytestmark = pytest.mark.virtual_time


def owe(made: Fairness, user: str, seconds: float) -> None:
    """Let a user owe time while there are others."""
    made.charge("user/9", 0.001)
    made.charge(user, seconds)


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
