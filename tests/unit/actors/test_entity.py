"""One entity: catch up, decide, append, evolve, reply, effects.

A decision stands on the newest state; after a conflict it is made again, and a repeat changes nothing. A
fault of a decision, a fold, an effect or the store reaches the asker, and the entity goes on soundly.
"""

import asyncio

import msgspec
import pytest

from huahuo.actors.entities.decider import Answer, Busy
from huahuo.actors.entities.entity import DECIDE_ATTEMPTS_MAX, CatchUp, Execute
from huahuo.eventstore.errors import Closed, CommandMismatch, Unavailable
from huahuo.eventstore.model import Append, StoredEvent
from huahuo.replay.history.keyframes import KeyframePolicy
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
