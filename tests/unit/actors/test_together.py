"""Entities that are loaded together, and decide without a message, many in one append."""

import asyncio

import pytest

from huahuo.actors.entities.group_commit import EVENTS_MAX, Together
from huahuo.eventstore.errors import Unavailable
from tests.support.worlds.entities import Deposit, PayInto, Town, Withdraw, in_town
from tests.support.worlds.scenario import scenario


def add(town: Town, group: Together, key: str, command: object, command_id: str = "c") -> bool:
    inbox = town.directory.resident_inbox(f"account/{key}")
    return inbox is not None and group.add(inbox, command, command_id)


def together(town: Town, **commands: object) -> Together | None:
    """A group of one command for each account, given to the log. None: not all could decide."""
    group = town.directory.together("account", "service")
    done = [add(town, group, key, command, f"c-{key}") for key, command in commands.items()]
    group.submit()
    return group if all(done) else None


@scenario(in_town)
async def test_an_entity_that_is_idle_and_loaded_decides_in_the_callers_call(town: Town) -> None:
    await town.execute("a", Deposit(5))
    begun = together(town, a=Deposit(2, receipt=True))
    assert begun is not None
    assert await begun.finish()
    assert await town.balance("a") == (2, 7)
    assert [receipt.balance for _, receipt, _ in town.effects] == [7]


@scenario(in_town)
async def test_until_it_is_written_the_entity_handles_no_other_message(town: Town) -> None:
    await town.execute("a", Deposit(5))
    begun = together(town, a=Deposit(2))
    assert begun is not None
    assert together(town, a=Deposit(1)) is None
    asked = asyncio.create_task(town.execute("a", Withdraw(7)))
    await asyncio.sleep(1)
    assert not asked.done()
    assert await begun.finish()
    await asked
    assert await town.balance("a") == (3, 0)


@scenario(in_town)
async def test_the_decisions_of_many_entities_are_one_append_and_each_names_its_command(town: Town) -> None:
    for key in "abc":
        await town.execute(key, Deposit(5))
    town.log.appends.clear()
    group = together(town, a=Deposit(1), b=Deposit(2, receipt=True), c=Withdraw(3))
    assert group is not None
    assert await group.finish()
    assert [await town.balance(key) for key in "abc"] == [(2, 6), (2, 7), (2, 2)]
    [append] = town.log.appends
    found = await town.log.read("log", 3, events_max=10)
    assert [event.command_id for event in found if event.stream.startswith("account/")] == [
        "c-a", "c-b", "c-c",
    ]  # fmt: skip
    assert len(append.events) == len(found)
    assert [key for key, _, _ in town.effects] == ["b"]


@scenario(in_town)
async def test_the_events_of_own_streams_come_first_and_each_entity_learns_its_own(town: Town) -> None:
    for key in "abc":
        await town.execute(key, Deposit(5))
    commands = {"a": PayInto("account/x", 1), "b": PayInto("account/y", 2), "c": Deposit(4, receipt=True)}
    group = together(town, **commands)
    assert group is not None
    assert await group.finish()
    found = await town.log.read("log", 3, events_max=10)
    assert [(event.stream, event.command_id) for event in found] == [
        ("account/a", "c-a"), ("account/b", "c-b"), ("account/c", "c-c"),
        ("account/x", "c-a"), ("account/y", "c-b"),
    ]  # fmt: skip
    assert [await town.balance(key) for key in "abcxy"] == [(2, 4), (2, 3), (2, 9), (1, 1), (1, 2)]
    assert [receipt.balance for _, receipt, _ in town.effects] == [9]


@scenario(in_town)
async def test_a_decision_that_counts_on_a_stream_which_another_writes_waits_for_the_next_append(
    town: Town,
) -> None:
    await town.execute("a", Deposit(5))
    await town.execute("b", Deposit(5))
    group = town.directory.together("account", "service")
    assert add(town, group, "a", PayInto("account/b", 1))
    assert not add(town, group, "b", Deposit(1)), "it expects a head that the other moves"
    group.submit()
    assert await group.finish()
    assert (await town.balance("a"), await town.balance("b")) == ((2, 4), (2, 6))
    group = town.directory.together("account", "service")
    assert add(town, group, "b", Deposit(1))
    assert not add(town, group, "a", PayInto("account/b", 1)), "it writes what the other expects"
    group.submit()
    assert await group.finish()


@scenario(in_town)
async def test_a_conflict_of_one_is_told_and_leaves_all_as_they_were(town: Town) -> None:
    for key in "abc":
        await town.execute(key, Deposit(5))
    first = together(town, a=PayInto("account/b", 1))
    second = together(town, b=Deposit(1), c=Deposit(1))
    assert first is not None
    assert second is not None
    assert (await first.finish(), await second.finish()) == (True, False)
    assert [await town.balance(key) for key in "abc"] == [(2, 4), (2, 6), (1, 5)]


@scenario(in_town)
async def test_a_group_is_full_before_it_holds_up_the_log(town: Town) -> None:
    group = town.directory.together("account", "service")
    for number in range(EVENTS_MAX):
        assert not group.full
        await town.execute(f"a{number}", Deposit(1))
        assert add(town, group, f"a{number}", Deposit(1))
    assert group.full
    group.submit()
    assert await group.finish()


@scenario(in_town)
async def test_an_entity_that_is_not_in_memory_does_nothing(town: Town) -> None:
    assert together(town, a=Deposit(2)) is None
    assert town.log.position == 0


@scenario(in_town)
async def test_a_decision_for_nothing_is_left_to_a_message(town: Town) -> None:
    await town.execute("a", Deposit(5))
    assert together(town, a=Withdraw(9)) is None
    assert await town.balance("a") == (1, 5)


@pytest.mark.parametrize("moment", ["before", "after"])
@scenario(in_town)
async def test_an_unknown_outcome_is_raised_and_the_entity_asks_the_log(town: Town, *, moment: str) -> None:
    await town.execute("a", Deposit(5))
    town.log.lose.append(moment)
    begun = together(town, a=Deposit(2))
    assert begun is not None
    with pytest.raises(Unavailable):
        await begun.finish()
    assert await town.balance("a") == ((1, 5) if moment == "before" else (2, 7))


@scenario(in_town)
async def test_an_entity_whose_caller_gave_up_goes_on(town: Town) -> None:
    await town.execute("a", Deposit(5))
    begun = together(town, a=Deposit(2))
    assert begun is not None
    begun.give_up()
    await asyncio.sleep(1)
    assert await town.balance("a") == (2, 7)


@scenario(in_town)
async def test_many_entities_are_loaded_together_and_then_decide_at_once(town: Town) -> None:
    keys = [f"a{number}" for number in range(300)]
    for key in keys:
        await town.execute(key, Deposit(1))
    await asyncio.sleep(1_000)
    assert town.directory.resident == 0
    await town.directory.load([("account", key) for key in keys])
    town.log.reads.clear()
    for key in keys:
        begun = together(town, **{key: Deposit(1)})
        assert begun is not None
        assert await begun.finish()
        assert await town.balance(key) == (2, 2)
    assert town.log.reads == []


@scenario(in_town)
async def test_a_long_stream_is_not_loaded_with_others(town: Town) -> None:
    for _ in range(60):
        await town.execute("a", Deposit(1))
    await asyncio.sleep(1_000)
    await town.directory.load([("account", "a")])
    assert together(town, a=Deposit(1)) is None
    assert await town.balance("a") == (60, 60)
