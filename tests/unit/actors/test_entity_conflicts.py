"""A decision stands on the newest state; after a conflict it is made again, and a repeat changes nothing."""

import asyncio

import msgspec
import pytest

from huahuo.actors.entities.decider import Busy
from huahuo.actors.entities.entity import DECIDE_ATTEMPTS_MAX
from huahuo.eventstore.errors import CommandMismatch
from huahuo.eventstore.model import Append
from tests.support.worlds.entities import (
    BY_ALICE,
    AccountDecider,
    Deposit,
    Done,
    PayInto,
    Receipt,
    Refused,
    Town,
    Withdraw,
    in_town,
    others_deposit,
)
from tests.support.worlds.scenario import scenario


@scenario(in_town)
async def test_a_guarded_entity_expects_its_stream_where_its_state_stands(town: Town) -> None:
    await others_deposit(town, "a", 5)
    await town.execute("a", Deposit(1))
    assert dict(town.log.appends[-1].expected) == {"account/a": 1}


@scenario(in_town, AccountDecider(guarded=False))
async def test_an_unguarded_entity_expects_only_what_the_decision_says(town: Town) -> None:
    await town.execute("a", Deposit(5))
    await town.execute("a", PayInto("account/b", 2))
    assert [dict(a.expected) for a in town.log.appends] == [{}, {"account/b": 0}]


@scenario(in_town)
async def test_a_conflict_is_decided_again_on_the_newer_state(town: Town) -> None:
    await town.execute("a", Deposit(10))
    rivals = iter([8])

    async def rival(_append: Append) -> None:
        for amount in rivals:
            await others_deposit(town, "a", -amount)

    town.log.before_append = rival
    answer = await town.execute("a", Withdraw(5))
    assert answer.reply == Refused("not enough")
    assert await town.balance("a") == (2, 2)


@scenario(in_town)
async def test_a_conflict_on_another_stream_is_decided_again_too(town: Town) -> None:
    await town.execute("a", Deposit(10))
    rivals = iter([1])

    async def rival(_append: Append) -> None:
        for amount in rivals:
            await others_deposit(town, "b", amount)

    town.log.before_append = rival
    answer = await town.execute("a", PayInto("account/b", 4))
    assert answer.at == ("account/b", 2)
    assert [dict(a.expected)["account/b"] for a in town.log.appends[1:]] == [0, 1]
    assert await town.balance("b") == (2, 5)


def test_what_a_state_holds_of_a_refused_decision_about_another_stream_is_forgotten() -> None:
    states: list[object] = []

    async def test(town: Town) -> None:
        await town.execute("a", Deposit(10))
        rivals = iter([1])

        async def rival(_append: Append) -> None:
            for amount in rivals:
                await others_deposit(town, "b", amount)

        town.log.before_append = rival
        await town.execute("a", PayInto("account/b", 4))
        refused, again = states[-2:]
        assert refused is not again

    in_town(test, AccountDecider(decide_hook=lambda state, _context: states.append(state)))


@scenario(in_town)
async def test_conflicts_without_end_are_answered_with_busy(town: Town) -> None:
    async def rival(_append: Append) -> None:
        await others_deposit(town, "a", 1)

    town.log.before_append = rival
    with pytest.raises(Busy):
        await town.execute("a", Deposit(5))
    assert len(town.log.appends) == DECIDE_ATTEMPTS_MAX
    town.log.before_append = None
    assert (await town.execute("a", Deposit(5))).reply == Done(DECIDE_ATTEMPTS_MAX + 5)


@scenario(in_town, AccountDecider(guarded=False))
async def test_no_head_that_a_decision_reads_is_newer_than_its_state(town: Town) -> None:
    """A rival writes to both streams at once, whenever the entity might be suspended."""
    seen: list[tuple[int, int]] = []
    town.decider.decide_hook = lambda state, context: seen.append((state.events, context.head("account/a")))
    stop = asyncio.Event()

    async def rival() -> None:
        while not stop.is_set():
            await others_deposit(town, "a", 1)

    rivalry = asyncio.create_task(rival())
    for _ in range(30):
        await town.execute("a", Deposit(1))
    stop.set()
    await rivalry
    assert len(seen) == 30
    assert all(events == head for events, head in seen)


@scenario(in_town)
async def test_a_repeated_command_gets_the_first_answer_and_no_effect(town: Town) -> None:
    await town.execute("a", Deposit(5, receipt=True), BY_ALICE)
    await town.execute("a", Deposit(1))
    answer = await town.execute("a", Deposit(5, receipt=True), BY_ALICE)
    assert answer.reply is None
    assert answer.at == ("account/a", 1)
    assert answer.duplicate is not None
    assert msgspec.json.decode(answer.duplicate.reply) == {"type": "success", "balance": 5}
    assert await town.balance("a") == (2, 6)
    assert town.effects == [("a", Receipt(5), 1)]


@scenario(in_town)
async def test_a_repeat_that_would_be_refused_by_now_gets_the_first_answer_too(town: Town) -> None:
    await town.execute("a", Deposit(5))
    await town.execute("a", Withdraw(5), BY_ALICE)
    answer = await town.execute("a", Withdraw(5), BY_ALICE)
    assert answer.duplicate is not None
    with pytest.raises(CommandMismatch):
        await town.execute("a", Withdraw(5), msgspec.structs.replace(BY_ALICE, fingerprint=b"other"))


@scenario(in_town)
async def test_the_same_command_id_with_another_content_is_an_error_for_the_asker(town: Town) -> None:
    await town.execute("a", Deposit(5), BY_ALICE)
    other = msgspec.structs.replace(BY_ALICE, fingerprint=b"deposit 6")
    with pytest.raises(CommandMismatch):
        await town.execute("a", Deposit(6), other)
    assert await town.balance("a") == (1, 5)
