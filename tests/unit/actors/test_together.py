"""Entities that are loaded together, and decide without a message, many in one append."""

from huahuo.actors.entities.group_commit import EVENTS_MAX, Together
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
async def test_a_decision_for_nothing_is_left_to_a_message(town: Town) -> None:
    await town.execute("a", Deposit(5))
    assert together(town, a=Withdraw(9)) is None
    assert await town.balance("a") == (1, 5)
