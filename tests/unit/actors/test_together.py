"""Entities that are loaded together, and decide without a message, many in one append."""

import asyncio
from itertools import batched

import pytest

from huahuo.actors.entities.directory import DirectoryLimits
from huahuo.actors.entities.together import EVENTS_MAX, Together
from huahuo.eventstore.errors import Unavailable
from tests.support.worlds.entities import Deposit, PayInto, Town, Withdraw, in_town


def add(town: Town, group: Together, key: str, command: object, command_id: str = "c") -> bool:
    holder = town.directory.in_memory(f"account/{key}")
    return holder is not None and group.add(holder, command, command_id)


def together(town: Town, **commands: object) -> Together | None:
    """A group of one command for each account, given to the log. None: not all could decide."""
    group = town.directory.together("account", "service")
    done = [add(town, group, key, command, f"c-{key}") for key, command in commands.items()]
    group.submit()
    return group if all(done) else None


def test_an_entity_that_is_idle_and_loaded_decides_in_the_callers_call() -> None:
    async def test(town: Town) -> None:
        await town.execute("a", Deposit(5))
        begun = together(town, a=Deposit(2, receipt=True))
        assert begun is not None
        assert await begun.finish()
        assert await town.balance("a") == (2, 7)
        assert [receipt.balance for _, receipt, _ in town.effects] == [7]

    in_town(test)


def test_until_it_is_written_the_entity_handles_no_other_message() -> None:
    async def test(town: Town) -> None:
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

    in_town(test)


def test_the_decisions_of_many_entities_are_one_append_and_each_names_its_command() -> None:
    async def test(town: Town) -> None:
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

    in_town(test)


def test_the_events_of_own_streams_come_first_and_each_entity_learns_its_own() -> None:
    async def test(town: Town) -> None:
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

    in_town(test)


def test_a_decision_that_counts_on_a_stream_which_another_writes_waits_for_the_next_append() -> None:
    async def test(town: Town) -> None:
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

    in_town(test)


def test_a_conflict_of_one_is_told_and_leaves_all_as_they_were() -> None:
    async def test(town: Town) -> None:
        for key in "abc":
            await town.execute(key, Deposit(5))
        first = together(town, a=PayInto("account/b", 1))
        second = together(town, b=Deposit(1), c=Deposit(1))
        assert first is not None
        assert second is not None
        assert (await first.finish(), await second.finish()) == (True, False)
        assert [await town.balance(key) for key in "abc"] == [(2, 4), (2, 6), (1, 5)]

    in_town(test)


def test_a_group_is_full_before_it_holds_up_the_log() -> None:
    async def test(town: Town) -> None:
        group = town.directory.together("account", "service")
        for number in range(EVENTS_MAX):
            assert not group.full
            await town.execute(f"a{number}", Deposit(1))
            assert add(town, group, f"a{number}", Deposit(1))
        assert group.full
        group.submit()
        assert await group.finish()

    in_town(test)


def test_an_entity_that_is_not_in_memory_does_nothing() -> None:
    async def test(town: Town) -> None:
        assert together(town, a=Deposit(2)) is None
        assert town.log.position == 0

    in_town(test)


def test_a_decision_for_nothing_is_left_to_a_message() -> None:
    async def test(town: Town) -> None:
        await town.execute("a", Deposit(5))
        assert together(town, a=Withdraw(9)) is None
        assert await town.balance("a") == (1, 5)

    in_town(test)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_unknown_outcome_is_raised_and_the_entity_asks_the_log(moment: str) -> None:
    async def test(town: Town) -> None:
        await town.execute("a", Deposit(5))
        town.log.lose.append(moment)
        begun = together(town, a=Deposit(2))
        assert begun is not None
        with pytest.raises(Unavailable):
            await begun.finish()
        assert await town.balance("a") == ((1, 5) if moment == "before" else (2, 7))

    in_town(test)


def test_an_entity_whose_caller_gave_up_goes_on() -> None:
    async def test(town: Town) -> None:
        await town.execute("a", Deposit(5))
        begun = together(town, a=Deposit(2))
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
        await town.directory.load([f"account/{key}" for key in keys])
        town.log.reads.clear()
        for key in keys:
            begun = together(town, **{key: Deposit(1)})
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
        await town.directory.load(["account/a"])
        assert together(town, a=Deposit(1)) is None
        assert await town.balance("a") == (60, 60)

    in_town(test)


async def load_and_end(town: Town, *keys: str) -> None:
    """Entities with one event each, read together and not asked since."""
    for key in keys:
        await town.execute(key, Deposit(1))
    await asyncio.sleep(1_000)
    assert town.directory.resident == 0
    await town.directory.load([f"account/{key}" for key in keys])


def test_entities_that_are_loaded_together_are_no_actors_before_their_first_message() -> None:
    async def test(town: Town) -> None:
        await load_and_end(town, "a", "b")
        begun = together(town, a=Deposit(1), b=Deposit(2, receipt=True))
        assert begun is not None
        assert await begun.finish()
        assert (town.directory.resident, town.runtime.alive) == (2, 0)
        town.log.reads.clear()
        assert await town.balance("a") == (2, 2)
        assert (town.directory.resident, town.runtime.alive, town.log.reads) == (2, 1, [])
        assert town.directory.weight == 4
        assert [key for key, _, _ in town.effects] == ["b"]

    in_town(test)


def test_a_message_for_a_quiet_entity_whose_decision_is_under_way_is_decided_behind_it() -> None:
    async def test(town: Town) -> None:
        await load_and_end(town, "a")
        begun = together(town, a=Deposit(2))
        assert begun is not None
        asked = asyncio.create_task(town.execute("a", Withdraw(3)))
        assert await begun.finish()
        await asked
        assert await town.balance("a") == (3, 0)
        assert (town.directory.resident, town.directory.weight) == (1, 3)

    in_town(test)


def test_a_message_that_is_written_before_the_decision_of_a_quiet_entity_refuses_that() -> None:
    async def test(town: Town) -> None:
        await load_and_end(town, "a", "b")
        group = town.directory.together("account", "service")
        assert add(town, group, "a", Deposit(2))
        assert add(town, group, "b", Deposit(2))
        await town.execute("a", Withdraw(1))
        group.submit()
        assert not await group.finish()
        assert [await town.balance(key) for key in "ab"] == [(2, 0), (1, 1)]
        assert town.directory.weight == 3

    in_town(test)


def test_a_quiet_entity_whose_append_has_an_unknown_outcome_is_read_again() -> None:
    async def test(town: Town) -> None:
        await load_and_end(town, "a")
        town.log.lose.append("after")
        begun = together(town, a=Deposit(2))
        assert begun is not None
        with pytest.raises(Unavailable):
            await begun.finish()
        assert together(town, a=Deposit(2)) is None
        await town.directory.load(["account/a"])
        assert together(town, a=Deposit(2)) is not None
        assert await town.balance("a") == (3, 5)

    in_town(test)


def test_quiet_entities_leave_memory_with_the_others_the_least_used_first() -> None:
    async def test(town: Town) -> None:
        await load_and_end(town, "a", "b")
        await asyncio.sleep(10)
        assert await town.balance("c") == (0, 0)
        await asyncio.sleep(10)
        begun = together(town, b=Deposit(1))
        assert begun is not None
        assert await begun.finish()
        await asyncio.sleep(85)
        assert [town.directory.holds("account", key) for key in "abc"] == [False, True, True]
        await asyncio.sleep(10)
        assert [town.directory.holds("account", key) for key in "abc"] == [False, True, False]
        await asyncio.sleep(20)
        assert (town.directory.resident, town.directory.weight) == (0, 0)

    in_town(test, limits=DirectoryLimits(idle_s=100))


def test_entities_that_are_loaded_faster_than_sweeps_end_others_stay_within_the_bound() -> None:
    async def test(town: Town) -> None:
        keys = [f"a{number}" for number in range(1_000)]
        for key in keys:
            await town.execute(key, Deposit(1))
        await asyncio.sleep(300)
        most = 0
        for some in batched(keys, 20):
            await town.directory.load([f"account/{key}" for key in some])
            most = max(most, town.directory.resident)
            await asyncio.sleep(0.2)
        assert 200 <= most <= 200 + 20 * 2 * 5, "the bound, and what was loaded since the last two sweeps"

    in_town(test, limits=DirectoryLimits(idle_s=100, residents_max=200, stops_per_sweep_max=10))


def test_a_quiet_entity_that_grew_long_leaves_a_keyframe() -> None:
    async def test(town: Town) -> None:
        await load_and_end(town, "a")
        for _ in range(50):
            begun = together(town, a=Deposit(1))
            assert begun is not None
            assert await begun.finish()
        await asyncio.sleep(1_000)
        assert town.directory.keyframes.written == 1
        town.log.reads.clear()
        assert await town.balance("a") == (51, 51)
        assert town.log.reads == []

    in_town(test)
