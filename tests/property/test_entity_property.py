"""Entities under any mixture of commands, rivals, faults and idleness: the log is the only truth."""

import asyncio
import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from huahuo.actors.entities.decider import Answer, Busy, Origin
from huahuo.actors.entities.directory import DirectoryLimits
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append, CommandKey
from huahuo.replay.history.keyframes import KeyframePolicy, state_at
from tests.support.proofs import examples
from tests.support.worlds.entities import Command, Deposit, Done, Reply, Town, Withdraw, in_town, moved

KEYS = ("a", "b")
keys = st.sampled_from(KEYS)
amounts = st.integers(1, 9)
wishes = st.one_of(
    st.tuples(st.just("do"), keys, st.one_of(st.builds(Deposit, amounts), st.builds(Withdraw, amounts))),
    st.tuples(st.just("rival"), keys, amounts),
    st.tuples(st.just("lose"), st.sampled_from(("before", "after")), st.just(0)),
    st.tuples(st.just("deaf"), st.booleans(), st.just(0)),
    st.tuples(st.just("pause"), st.sampled_from((0.0, 0.0, 3.0, 40.0)), st.just(0)),
)


def origin_of(number: int) -> Origin:
    command_id = f"c{number}"
    return Origin("user/1", command_id, CommandKey("user/1", "dev", command_id), command_id.encode())


async def insist(town: Town, key: str, command: Command, number: int) -> Answer[Reply]:
    """As a client does: the same command with the same id until its outcome is known."""
    while True:
        try:
            return await town.execute(key, command, origin_of(number))
        except (Unavailable, Busy):
            await asyncio.sleep(0.1)


@settings(deadline=None, max_examples=examples(300))
@given(wishes=st.lists(wishes, max_size=25), seed=st.integers(0, 1 << 32))
def test_the_live_state_is_the_fold_of_the_log_and_every_command_took_effect_once(
    wishes: list[tuple[str, object, object]], seed: int
) -> None:
    async def test(town: Town) -> None:
        doing: dict[int, asyncio.Task[Answer[Reply]]] = {}
        for number, wish in enumerate(wishes):
            match wish:
                case ("do", str(key), Deposit() | Withdraw() as command):
                    doing[number] = asyncio.create_task(insist(town, key, command, number))
                case ("rival", str(key), int(amount)):
                    await town.log.append_soundly(Append(ts_ms=1, events=(moved(f"account/{key}", amount),)))
                case ("lose", str(moment), _):
                    town.log.lose.append(moment)
                case ("deaf", bool(deaf), _):
                    town.log.deaf = deaf
                case ("pause", float(seconds), _):
                    await asyncio.sleep(seconds)
        answers = {number: await task for number, task in doing.items()}
        town.log.lose.clear()

        written: Counter[str] = Counter()
        for key in KEYS:
            events = await town.log.read(f"account/{key}", 0, events_max=1000)
            written.update(event.command_id for event in events)
            balance = 0
            for event in events:
                balance = town.decider.evolve(town.decider.initial(""), event).balance + balance
                assert balance >= 0
            assert await town.balance(key) == (len(events), balance)
            seq, state = await state_at(town.log, f"account/{key}", town.decider)
            assert (seq, state.balance) == (len(events), balance)
        for number, answer in answers.items():
            done = isinstance(answer.reply, Done) or answer.duplicate is not None
            assert written[f"c{number}"] == (1 if done else 0)

    in_town(
        test,
        limits=DirectoryLimits(idle_s=2),
        keyframes=KeyframePolicy(every=4, leaving=2),
        rng=random.Random(seed),
    )
