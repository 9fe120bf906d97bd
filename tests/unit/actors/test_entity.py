"""One entity: catch up, decide, append, evolve, reply, effects.

A decision stands on the newest state; after a conflict it is made again, and a repeat changes nothing. A
fault of a decision, a fold, an effect or the store reaches the asker, and the entity goes on soundly.
"""

import asyncio

import msgspec
import pytest

from huahuo.actors.entities.decider import Busy
from huahuo.actors.entities.entity import DECIDE_ATTEMPTS_MAX, Execute
from huahuo.eventstore.errors import CommandMismatch, Unavailable
from huahuo.eventstore.model import Append, StoredEvent
from tests.support.worlds.entities import (
    BY_ALICE,
    Deposit,
    Done,
    Town,
    Withdraw,
    in_town,
    others_deposit,
)
from tests.support.worlds.scenario import scenario


@scenario(in_town)
async def test_catching_up_passes_over_what_was_compacted(town: Town) -> None:
    await town.execute("a", Deposit(5))
    town.log.deaf = True
    for _ in range(3):
        await others_deposit(town, "a", 1)
    town.log.compacted = {2, 4}
    assert await town.balance("a") == (4, 6)


@scenario(in_town)
async def test_a_message_nobody_understands_is_an_error_for_the_asker(town: Town) -> None:
    with pytest.raises(TypeError):
        await town.directory.ask("account", "a", "hello")


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


@scenario(in_town)
async def test_a_repeat_that_would_be_refused_by_now_gets_the_first_answer_too(town: Town) -> None:
    await town.execute("a", Deposit(5))
    await town.execute("a", Withdraw(5), BY_ALICE)
    answer = await town.execute("a", Withdraw(5), BY_ALICE)
    assert answer.duplicate is not None
    with pytest.raises(CommandMismatch):
        await town.execute("a", Withdraw(5), msgspec.structs.replace(BY_ALICE, fingerprint=b"other"))


@scenario(in_town)
async def test_an_effect_that_cannot_start_changes_nothing_for_the_asker(town: Town) -> None:
    def broken(_key: str, _effect: object, _position: int) -> None:
        raise RuntimeError("a bug")

    town.directory.register("broken", town.decider, broken, stream_prefix="account")
    answer = await town.directory.ask("broken", "a", Execute(Deposit(5, receipt=True), BY_ALICE))
    assert answer.reply == Done(5)
    assert await town.balance("a") == (1, 5)


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
async def test_a_command_that_waits_behind_a_failed_fold_is_decided_on_a_sound_state(town: Town) -> None:
    await town.execute("a", Deposit(5))
    town.decider.evolve_hook = FailsOnce(2)
    answers = await asyncio.gather(town.execute("a", Deposit(6)), town.execute("a", Deposit(1)))
    assert [answer.reply for answer in answers] == [Done(11), Done(12)]
