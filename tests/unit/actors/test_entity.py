"""One entity: catch up, decide, append, evolve, reply, effects."""

import asyncio

import pytest

from huahuo.actors.entities.decider import Answer
from huahuo.actors.entities.entity import CatchUp, Execute
from huahuo.replay.history.keyframes import KeyframePolicy
from tests.support.worlds.entities import (
    BY_ALICE,
    Deposit,
    Done,
    Receipt,
    Refused,
    Town,
    Withdraw,
    in_town,
    others_deposit,
)
from tests.support.worlds.scenario import scenario


@scenario(in_town)
async def test_a_command_is_decided_and_becomes_events(town: Town) -> None:
    answer = await town.execute("a", Deposit(5))
    assert answer == Answer(reply=Done(5), at=("account/a", 1), position=1)
    assert town.log.head("account/a").seq == 1


@scenario(in_town)
async def test_every_event_says_who_caused_it(town: Town) -> None:
    await town.execute("a", Deposit(5), BY_ALICE)
    [event] = await town.log.read("account/a", 0, events_max=9)
    assert (event.principal, event.command_id, event.cause) == ("user/42", "c1", 7)


@scenario(in_town)
async def test_catching_up_answers_the_seq(town: Town) -> None:
    await others_deposit(town, "a", 5)
    assert await town.directory.ask("account", "a", CatchUp()) == 1


@scenario(in_town)
async def test_catching_up_passes_over_what_was_compacted(town: Town) -> None:
    await town.execute("a", Deposit(5))
    town.log.deaf = True
    for _ in range(3):
        await others_deposit(town, "a", 1)
    town.log.compacted = {2, 4}
    assert await town.balance("a") == (4, 6)


@scenario(in_town)
async def test_effects_start_after_the_commit(town: Town) -> None:
    before: list[int] = []
    town.log.before_append = lambda _: before.append(len(town.effects))
    await town.execute("a", Deposit(5, receipt=True))
    assert (before, town.effects) == ([0], [("a", Receipt(5), 1)])


@scenario(in_town)
async def test_effects_start_after_the_answer_was_given(town: Town) -> None:
    answers: list[Answer[object]] = []
    kind = "told after"
    town.directory.register(
        kind, town.decider, lambda *_: answers.append(future.get(timeout=0)), stream_prefix="account"
    )
    await town.directory.ask(kind, "a", CatchUp())
    entity = town.directory.entity(kind, "a")
    future = entity.ask(Execute(Deposit(5, receipt=True), BY_ALICE), block=False)
    answer = await future
    assert answers == [answer]


@scenario(in_town)
async def test_a_told_command_is_executed_without_an_answer(town: Town) -> None:
    await town.directory.tell("account", "a", Execute(Deposit(5), BY_ALICE))
    assert await town.balance("a") == (1, 5)


@scenario(in_town)
async def test_commands_are_executed_one_at_a_time_in_the_order_of_the_asks(town: Town) -> None:
    asked = (Deposit(1), Deposit(2), Withdraw(3), Withdraw(1), Deposit(1), Withdraw(1))
    answers = await asyncio.gather(*(town.execute("a", command) for command in asked))
    replies = [answer.reply for answer in answers]
    assert replies == [Done(1), Done(3), Done(0), Refused("not enough"), Done(1), Done(0)]


@scenario(in_town)
async def test_a_message_nobody_understands_is_an_error_for_the_asker(town: Town) -> None:
    with pytest.raises(TypeError):
        await town.directory.ask("account", "a", "hello")


@scenario(in_town, keyframes=KeyframePolicy(every=3, leaving=100))
async def test_a_keyframe_is_kept_at_a_fixed_distance_in_events(town: Town) -> None:
    for _ in range(7):
        await town.execute("a", Deposit(1))
    await town.directory.keyframes.flush()
    frame = await town.log.keyframe("account/a", "account", "v1")
    assert frame is not None
    assert frame.seq == 6
    assert town.directory.keyframes.written == 2
