"""Entities that are loaded together, and decide without a message."""

import asyncio

import pytest

from huahuo.eventstore.errors import Unavailable
from tests.support.worlds.entities import SERVICE, Deposit, PayInto, Town, Withdraw, in_town


def test_an_entity_that_is_idle_and_loaded_decides_in_the_callers_call() -> None:
    async def test(town: Town) -> None:
        await town.execute("a", Deposit(5))
        begun = town.directory.begin("account", "a", Deposit(2, receipt=True), SERVICE)
        assert begun is not None
        assert await begun.finish()
        assert await town.balance("a") == (2, 7)
        assert [receipt.balance for _, receipt, _ in town.effects] == [7]

    in_town(test)


def test_until_it_is_written_the_entity_handles_no_other_message() -> None:
    async def test(town: Town) -> None:
        await town.execute("a", Deposit(5))
        begun = town.directory.begin("account", "a", Deposit(2), SERVICE)
        assert begun is not None
        assert town.directory.begin("account", "a", Deposit(1), SERVICE) is None
        asked = asyncio.create_task(town.execute("a", Withdraw(7)))
        await asyncio.sleep(1)
        assert not asked.done()
        assert await begun.finish()
        await asked
        assert await town.balance("a") == (3, 0)

    in_town(test)


def test_an_entity_that_is_not_in_memory_does_nothing() -> None:
    async def test(town: Town) -> None:
        assert town.directory.begin("account", "a", Deposit(2), SERVICE) is None
        assert town.log.position == 0

    in_town(test)


def test_a_decision_for_nothing_is_left_to_a_message() -> None:
    async def test(town: Town) -> None:
        await town.execute("a", Deposit(5))
        assert town.directory.begin("account", "a", Withdraw(9), SERVICE) is None
        assert await town.balance("a") == (1, 5)

    in_town(test)


def test_a_conflict_is_told_and_leaves_the_entity_as_it_was() -> None:
    async def test(town: Town) -> None:
        await town.execute("a", Deposit(5))
        await town.execute("b", Deposit(5))
        first = town.directory.begin("account", "a", PayInto("account/b", 1), SERVICE)
        second = town.directory.begin("account", "b", Deposit(1), SERVICE)
        assert first is not None
        assert second is not None
        assert (await first.finish(), await second.finish()) == (True, False)
        assert (await town.balance("a"), await town.balance("b")) == ((2, 4), (2, 6))

    in_town(test)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_unknown_outcome_is_raised_and_the_entity_asks_the_log(moment: str) -> None:
    async def test(town: Town) -> None:
        await town.execute("a", Deposit(5))
        town.log.lose.append(moment)
        begun = town.directory.begin("account", "a", Deposit(2), SERVICE)
        assert begun is not None
        with pytest.raises(Unavailable):
            await begun.finish()
        assert await town.balance("a") == ((1, 5) if moment == "before" else (2, 7))

    in_town(test)


def test_an_entity_whose_caller_gave_up_goes_on() -> None:
    async def test(town: Town) -> None:
        await town.execute("a", Deposit(5))
        begun = town.directory.begin("account", "a", Deposit(2), SERVICE)
        assert begun is not None
        begun.give_up()
        await asyncio.sleep(1)
        assert await town.balance("a") == (2, 7)

    in_town(test)


def test_many_entities_are_loaded_together_and_then_decide_at_once() -> None:
    async def test(town: Town) -> None:
        keys = [f"a{number}" for number in range(300)]
        for key in keys:
            await town.execute(key, Deposit(1))
        await asyncio.sleep(1_000)
        assert town.directory.resident == 0
        await town.directory.load([("account", key) for key in keys])
        town.log.reads.clear()
        for key in keys:
            begun = town.directory.begin("account", key, Deposit(1), SERVICE)
            assert begun is not None
            assert await begun.finish()
            assert await town.balance(key) == (2, 2)
        assert town.log.reads == []

    in_town(test)


def test_a_long_stream_is_not_loaded_with_others() -> None:
    async def test(town: Town) -> None:
        for _ in range(60):
            await town.execute("a", Deposit(1))
        await asyncio.sleep(1_000)
        await town.directory.load([("account", "a")])
        assert town.directory.begin("account", "a", Deposit(1), SERVICE) is None
        assert await town.balance("a") == (60, 60)

    in_town(test)
