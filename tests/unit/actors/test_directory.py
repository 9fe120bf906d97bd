"""The directory of entities: who is in memory, and what may wait, in messages and in bytes."""

import asyncio

import pytest

from huahuo.actors.entities.decider import Busy, Degraded
from huahuo.actors.entities.directory import DirectoryLimits, InboxBytes
from huahuo.actors.entities.entity import Execute, Query
from huahuo.eventstore.model import Append, StoredEvent
from huahuo.replay.history.keyframes import KeyframePolicy
from tests.support.worlds.entities import SERVICE, Deposit, Done, Town, in_town, moved
from tests.support.worlds.scenario import scenario

IDLE_S = DirectoryLimits().idle_s


async def run_dry(town: Town) -> None:
    """Wait until all accounts have ended for idleness."""
    await asyncio.sleep(IDLE_S + 5)
    assert town.directory.resident == 0


@scenario(in_town)
async def test_an_entity_at_work_is_not_ended(town: Town) -> None:
    gate = held(town)
    working = asyncio.create_task(
        town.directory.ask("account", "a", Execute(Deposit(1), SERVICE), timeout_s=1e9)
    )
    await asyncio.sleep(3 * IDLE_S)
    assert town.directory.resident == 1
    gate.set()
    assert (await working).reply == Done(1)


@scenario(in_town, limits=DirectoryLimits(residents_max=2))
async def test_the_longest_unused_go_first_when_there_are_too_many(town: Town) -> None:
    for key in ("a", "b", "c", "d"):
        await town.execute(key, Deposit(1))
    await town.balance("a")
    await asyncio.sleep(1.5)
    activations = town.directory.activations
    await town.balance("a")
    await town.balance("d")
    assert (town.directory.resident, town.directory.activations) == (2, activations)


@scenario(in_town, limits=DirectoryLimits(weight_max=5))
async def test_the_longest_unused_go_first_when_their_states_weigh_too_much(town: Town) -> None:
    for key in ("a", "b", "c"):
        for _ in range(3):
            await town.execute(key, Deposit(1))
    assert town.directory.weight == 9
    await asyncio.sleep(1.5)
    assert (town.directory.resident, town.directory.weight) == (1, 3)


@scenario(in_town)
async def test_weights_do_not_drift_over_failures_and_returns(town: Town) -> None:
    await town.execute("a", Deposit(1))
    await town.execute("a", Deposit(1))
    town.log.lose = ["after"]
    await town.directory.tell("account", "a", Execute(Deposit(1), SERVICE))
    await town.balance("a")
    assert town.directory.weight == 3
    await town.directory.tell("account", "a", Query(lambda _seq, _state: 1 // 0))
    await town.balance("a")
    assert (town.directory.weight, town.runtime.restarts) == (3, 1)
    await run_dry(town)
    assert town.directory.weight == 0


@scenario(in_town, keyframes=KeyframePolicy(leaving=1))
async def test_of_a_crowd_that_is_ended_everyone_leaves_a_keyframe(town: Town) -> None:
    events = tuple(moved(f"account/{key}", 1) for key in range(600))
    await town.log.append_soundly(Append(ts_ms=1, events=events))
    for key in range(600):
        await town.balance(str(key))
    await run_dry(town)
    assert (town.directory.keyframes.written, town.directory.keyframes.left_out) == (600, 0)


@scenario(in_town, limits=DirectoryLimits(loads_max=4))
async def test_the_number_of_entities_loading_at_a_time_is_bounded(town: Town) -> None:
    events = tuple(moved(f"account/{n}", 1) for n in range(50))
    await town.log.append(Append(ts_ms=1, events=events))
    await asyncio.gather(*(town.balance(str(n)) for n in range(50)))
    assert town.log.reading_peak == 4


def held(town: Town) -> asyncio.Event:
    """Hold back every append until the event is set."""
    gate = asyncio.Event()

    async def wait(_append: Append) -> None:
        await gate.wait()

    town.log.before_append = wait
    return gate


@scenario(in_town, limits=DirectoryLimits(inbox_max=4))
async def test_a_full_inbox_is_answered_with_busy(town: Town) -> None:
    gate = held(town)
    at_work = asyncio.create_task(town.execute("a", Deposit(1)))
    await asyncio.sleep(1)
    asked = [at_work, *(asyncio.create_task(town.execute("a", Deposit(1))) for _ in range(4))]
    await asyncio.sleep(1)
    with pytest.raises(Busy):
        await town.execute("a", Deposit(1))
    gate.set()
    assert [(await one).reply for one in asked] == [Done(n) for n in range(1, 6)]


@scenario(in_town, limits=DirectoryLimits(inbox_bytes_max=1_000))
async def test_an_inbox_is_bounded_in_bytes_too(town: Town) -> None:
    gate = held(town)

    def send(size: int) -> asyncio.Task[object]:
        async def held_and_sent() -> object:
            with town.directory.hold("account", "a", size):
                return await town.execute("a", Deposit(1))

        return asyncio.create_task(held_and_sent())

    first = send(2_000)  # larger than the bound, but no other message waits
    await asyncio.sleep(1)
    with pytest.raises(Busy):
        await send(1)
    assert town.directory.waiting_bytes == 2_000
    gate.set()
    await first
    await send(600)
    assert town.directory.waiting_bytes == 0


@scenario(in_town)
async def test_an_entity_that_keeps_failing_is_left_alone_for_a_while(town: Town) -> None:
    broken = True

    def hook(_event: StoredEvent) -> None:
        if broken:
            raise ZeroDivisionError

    town.decider.evolve_hook = hook
    await town.log.append_soundly(Append(ts_ms=1, events=(moved("account/a", 1),)))
    for _ in range(6):
        with pytest.raises(ZeroDivisionError):
            await town.balance("a")
    for _ in range(3):
        with pytest.raises(Degraded):
            await town.balance("a")
    assert town.directory.degradations == 1
    broken = False
    await asyncio.sleep(31)
    assert await town.balance("a") == (1, 1)


@scenario(in_town)
async def test_closing_finishes_what_was_taken_and_takes_no_more(town: Town) -> None:
    asked = [asyncio.create_task(town.execute("a", Deposit(1))) for _ in range(10)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(town.directory.close())
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await town.execute("a", Deposit(1))
    assert [(await one).reply for one in asked] == [Done(n) for n in range(1, 11)]
    await closing
    assert (town.directory.resident, town.runtime.alive) == (0, 0)


@scenario(in_town)
async def test_a_kind_is_registered_once(town: Town) -> None:
    with pytest.raises(ValueError, match="registered already"):
        town.directory.register("account", town.decider, lambda *_: None)
    with pytest.raises(ValueError, match="no slash"):  # "a/b" and "c" are not "a" and "b/c"
        town.directory.register("account/old", town.decider, lambda *_: None)


def test_all_inboxes_together_are_bounded_in_bytes() -> None:
    inboxes = InboxBytes(each_max=80, all_max=100)
    with inboxes.hold("a/1", 80), inboxes.hold("a/2", 20):
        with pytest.raises(Busy), inboxes.hold("a/2", 31):  # 51 of an even share of 50
            pass
        with inboxes.hold("a/3", 33):
            assert inboxes.total == 133
    assert inboxes.total == 0
