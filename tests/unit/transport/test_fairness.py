"""Who pays for what the service does, and for how long an entity lets its user wait."""

import asyncio

import pytest

from huahuo.actors.entities.decider import Origin
from huahuo.actors.entities.entity import OTHERS_WAIT_S_MAX, Query
from huahuo.app.ground import Fairness
from huahuo.eventstore.executor import acting_for
from huahuo.transport.load.fair_queueing import PAID_S_MAX, Turns
from huahuo.transport.load.shares import FREE_S, Shares
from tests.support.worlds.entities import Deposit, Done, Town, in_town

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
