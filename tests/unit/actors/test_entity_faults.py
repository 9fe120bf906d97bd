"""A fault of a decision, a fold, an effect or the store reaches the asker, and the entity goes on soundly."""

import asyncio

import pytest

from huahuo.actors.entities.entity import Execute
from huahuo.eventstore.errors import Closed, Unavailable
from huahuo.eventstore.model import Append, StoredEvent
from tests.support.worlds.entities import BY_ALICE, Deposit, Done, Receipt, Town, in_town, others_deposit
from tests.support.worlds.scenario import scenario


@scenario(in_town)
async def test_an_effect_that_cannot_start_changes_nothing_for_the_asker(town: Town) -> None:
    def broken(_key: str, _effect: object, _position: int) -> None:
        raise RuntimeError("a bug")

    town.directory.register("broken", town.decider, broken, stream_prefix="account")
    answer = await town.directory.ask("broken", "a", Execute(Deposit(5, receipt=True), BY_ALICE))
    assert answer.reply == Done(5)
    assert await town.balance("a") == (1, 5)


@pytest.mark.parametrize("moment", ["before", "after"])
@scenario(in_town)
async def test_an_unknown_outcome_reaches_the_asker_and_the_state_is_loaded_again(
    town: Town, *, moment: str
) -> None:
    await town.execute("a", Deposit(5))
    town.log.lose = [moment]
    with pytest.raises(Unavailable):
        await town.execute("a", Deposit(1), BY_ALICE)
    written = town.log.head("account/a").seq
    town.log.reads.clear()
    assert await town.balance("a") == (written, 5 + written - 1)
    assert town.log.reads == [("account/a", 0)]


@pytest.mark.parametrize("moment", ["before", "after"])
@scenario(in_town)
async def test_a_retry_after_an_unknown_outcome_takes_effect_exactly_once(town: Town, *, moment: str) -> None:
    town.log.lose = [moment]
    with pytest.raises(Unavailable):
        await town.execute("a", Deposit(5), BY_ALICE)
    answer = await town.execute("a", Deposit(5), BY_ALICE)
    assert (answer.duplicate is not None) == (moment == "after")
    assert await town.balance("a") == (1, 5)


@scenario(in_town)
async def test_a_store_that_fails_often_never_degrades_an_entity(town: Town) -> None:
    for _ in range(20):
        town.log.lose = ["before"]
        with pytest.raises(Unavailable):
            await town.execute("a", Deposit(1))
    assert (await town.execute("a", Deposit(1))).reply == Done(1)
    assert town.runtime.restarts == 0


@scenario(in_town)
async def test_an_append_that_certainly_failed_keeps_the_state(town: Town) -> None:
    await town.execute("a", Deposit(5))
    town.log.reads.clear()

    def closed(_append: Append) -> None:
        raise Closed("the log is closed")

    town.log.before_append = closed
    with pytest.raises(Closed):
        await town.execute("a", Deposit(1))
    assert await town.balance("a") == (1, 5)
    assert town.log.reads == []


@scenario(in_town)
async def test_a_load_that_fails_is_an_error_for_the_asker_and_is_tried_again(town: Town) -> None:
    await others_deposit(town, "a", 5)
    town.log.read_fault = Unavailable("no disk")
    for _ in range(20):
        with pytest.raises(Unavailable):
            await town.execute("a", Deposit(1))
    town.log.read_fault = None
    assert (await town.execute("a", Deposit(1))).reply == Done(6)
    assert town.runtime.restarts == 0


@scenario(in_town)
async def test_a_decision_that_raises_is_an_error_for_the_asker_and_changes_nothing(town: Town) -> None:
    await town.execute("a", Deposit(5))

    def bug(*_: object) -> None:
        raise ZeroDivisionError

    town.decider.decide_hook = bug
    with pytest.raises(ZeroDivisionError):
        await town.execute("a", Deposit(1))
    town.decider.decide_hook = None
    assert await town.balance("a") == (1, 5)


class FailsOnce:
    """An evolve hook that raises the first time it sees this seq."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.failures = 0

    def __call__(self, event: StoredEvent) -> None:
        if event.seq == self.seq and self.failures == 0:
            self.failures += 1
            raise ZeroDivisionError


@scenario(in_town)
async def test_a_fold_that_fails_after_the_commit_is_answered_all_the_same_and_the_state_is_loaded_again(
    town: Town,
) -> None:
    await town.execute("a", Deposit(5))
    town.decider.evolve_hook = FailsOnce(2)
    answer = await town.execute("a", Deposit(6, receipt=True))
    assert answer.reply == Done(11)
    assert await town.balance("a") == (2, 11)
    assert town.effects == [("a", Receipt(11), 2)]


@scenario(in_town)
async def test_a_command_that_waits_behind_a_failed_fold_is_decided_on_a_sound_state(town: Town) -> None:
    await town.execute("a", Deposit(5))
    town.decider.evolve_hook = FailsOnce(2)
    answers = await asyncio.gather(town.execute("a", Deposit(6)), town.execute("a", Deposit(1)))
    assert [answer.reply for answer in answers] == [Done(11), Done(12)]


@scenario(in_town)
async def test_a_told_command_that_the_store_refuses_stops_nothing(town: Town) -> None:
    town.log.lose = ["before"]
    await town.directory.tell("account", "a", Execute(Deposit(5), BY_ALICE))
    assert await town.balance("a") == (0, 0)
    assert town.runtime.restarts == 0
