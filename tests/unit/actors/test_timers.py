"""Timers of entities: when they fire, how often, what ends them, and what a firing costs.

The cost is a count of calls, which depends on the code alone and not on the machine.
"""

import asyncio
import sys
from collections.abc import Sequence
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest

from huahuo.actors.entities.rendezvous_hash import NOTHING, WHOLE
from huahuo.actors.timers import clockwork, timer_table
from huahuo.actors.timers.clockwork import Heard, Limits
from huahuo.actors.timers.timer import TABLE, Known, PendingTimers, Timer
from huahuo.actors.timers.timer_table import UnknownCommand
from huahuo.actors.timers.window import Retries
from huahuo.eventstore.care.pruning import CompactionPolicy, compact
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append, RowDrop, StoredEvent
from huahuo.replay.history.keyframes import state_at
from tests.support.models.faulty_log import faulty_log, write
from tests.support.worlds.bells import SetEvery, SetOnce, Silence, Tower, bells, in_tower
from tests.support.worlds.scenario import scenario


@scenario(in_tower)
async def test_a_second_timer_of_the_same_name_replaces_the_first(tower: Tower) -> None:
    await tower.do(SetOnce(60, name="a"))
    await tower.do(SetOnce(100, name="b"))
    await tower.do(SetEvery(50, name="b"))
    await tower.do(SetOnce(30, name="a"))
    await asyncio.sleep(110)
    assert await tower.rings() == [30.0, 50.0, 100.0]


@scenario(in_tower)
async def test_a_command_sets_timers_as_it_is_fired_by_one(tower: Tower) -> None:
    await tower.do(SetOnce(60, how="again"))
    await asyncio.sleep(200)
    assert await tower.rings() == [60.0, 70.0, 80.0]
    await tower.do(SetEvery(60, how="again"))
    await asyncio.sleep(75)
    assert (await tower.rings())[3:] == [260.0, 270.0]  # the After took the name of the Every


@scenario(in_tower)
async def test_an_every_ends_when_its_own_command_cancels(tower: Tower) -> None:
    await tower.do(SetEvery(60, how="silence"))
    await asyncio.sleep(300)
    assert await tower.rings() == [60.0]


@scenario(in_tower)
async def test_a_handler_that_fails_is_asked_again_and_keeps_no_other_timer_back(tower: Tower) -> None:
    await tower.do(SetOnce(60, name="broken", how="fail"))
    await tower.do(SetOnce(61, name="sound"))
    await asyncio.sleep(65)
    assert await tower.rings() == [61.0]
    assert [timer.name for timer in await tower.pending()] == ["broken"]


def test_more_failing_timers_than_are_remembered_keep_no_other_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = Limits(in_memory_max=4, at_once=2, retries_max=3)
    monkeypatch.setattr(clockwork.Clockwork.__init__, "__defaults__", (limits,))

    async def test(tower: Tower) -> None:
        await tower.again()
        for number in range(40):
            await tower.do(SetOnce(60, name=f"broken{number}", how="fail"))
        await tower.do(SetOnce(61, name="sound"))
        await asyncio.sleep(70)
        assert await tower.rings() == [61.0]
        assert len(await tower.pending()) == 40

    in_tower(test)


@pytest.mark.parametrize("moment", ["before", "after"])
@scenario(in_tower)
async def test_a_firing_whose_outcome_is_unknown_happens_once(tower: Tower, *, moment: str) -> None:
    await tower.do(SetOnce(60))
    await tower.do(SetEvery(60, name="every"))
    await asyncio.sleep(59)
    tower.log.lose += [moment, moment]
    await asyncio.sleep(10)
    rings = await tower.rung()
    assert len({ring.id for ring in rings}) == len(rings) == 2


@pytest.mark.parametrize("moment", ["before", "after"])
@scenario(in_tower)
async def test_a_replacement_whose_outcome_is_unknown_leaves_one_timer(tower: Tower, *, moment: str) -> None:
    await tower.do(SetOnce(60))
    tower.log.lose.append(moment)
    with pytest.raises(Unavailable):
        await tower.do(SetOnce(30))
    await tower.do(SetOnce(90))
    assert len(await tower.pending()) == 1
    await asyncio.sleep(100)
    assert await tower.rings() == [90.0]


@scenario(in_tower)
async def test_a_table_that_cannot_be_read_is_tried_again_after_a_pause(
    tower: Tower, *, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, sound, tried_s = asyncio.get_running_loop(), tower.log.rows, list[float]()

    async def rows(table: str, part: str, **where: Any) -> Any:
        if table != TABLE:
            return await sound(table, part, **where)
        tried_s.append(loop.time())
        if len(tried_s) <= 5:
            raise Unavailable("its disk is gone")
        return await sound(table, part, **where)

    tower.log.deaf = True  # so the table is read anew after a minute
    await tower.do(SetOnce(30))
    monkeypatch.setattr(tower.log, "rows", rows)
    await asyncio.sleep(70)
    assert len(await tower.rung()) == 1
    assert all(later - earlier > 0.9 for earlier, later in pairwise(tried_s[:6]))


@scenario(in_tower)
async def test_lost_signals_of_the_log_delay_a_timer_by_a_minute_at_most(tower: Tower) -> None:
    tower.log.deaf = True
    await tower.do(SetOnce(30))
    await tower.do(SetEvery(100, name="every"))
    await asyncio.sleep(400)
    [first, *rest] = await tower.rings()
    assert 30 <= first <= 90
    assert len(rest) >= 2


def test_of_many_timers_only_the_next_are_in_memory_and_all_fire_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = Limits(in_memory_max=16, at_once=4)
    monkeypatch.setattr(clockwork.Clockwork.__init__, "__defaults__", (limits,))

    async def test(tower: Tower) -> None:
        await tower.again()
        for number in range(200):
            await tower.do(SetOnce(1000 + (number * 37) % 200, name=f"n{number}"))
        await asyncio.sleep(1300)
        rings = await tower.rings()
        assert len(rings) == 200
        assert rings == sorted(rings)
        assert await tower.pending() == []

    in_tower(test)


def test_timers_that_a_node_gains_while_it_reads_the_table_are_not_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clockwork, "_PAGE_ROWS", 2)

    async def test(tower: Tower) -> None:
        for number in range(8):
            await tower.do(SetOnce(30, name=f"n{number}"))
        timers = tower.engine.api.timers
        timers.divide(NOTHING)
        for _ in range(3):
            await asyncio.sleep(0)
        timers.divide(WHOLE)
        await asyncio.sleep(31)
        assert len(await tower.rings()) == 8

    in_tower(test)


@scenario(in_tower)
async def test_a_start_that_finds_timers_of_an_unknown_command_is_refused_with_its_name(tower: Tower) -> None:
    await tower.do(SetOnce(60))
    await tower.crash()
    with pytest.raises(UnknownCommand, match=r"bell/b will send the command 'ring'.*name='ring'"):
        await tower.start(bells(ring="strike"))
    await tower.again(bells(ring="ring"))
    clockwork, others = tower.engine.api.timers, {"bell/strike"}
    with pytest.raises(UnknownCommand):
        await clockwork.known(others)
    await asyncio.sleep(61)
    await clockwork.known(others)
    assert await tower.rings() == [60.0]
    await tower.again(bells(ring="strike"))  # none is pending: the name is forgotten


@scenario(in_tower)
async def test_the_table_made_anew_from_the_log_is_the_one_that_was_there(tower: Tower) -> None:
    async def table(tower: Tower) -> list[Any]:
        parts = ["", "commands"]
        return [await tower.log.rows(TABLE, part, after=b"", limit=99) for part in parts]

    await tower.hang("c")
    await tower.do(SetOnce(60, name="a"))
    await tower.do(SetEvery(50, name="b"), "c")
    await tower.do(SetOnce(500, name="c"), "c")
    await asyncio.sleep(70)
    await tower.do(Silence())
    await tower.do(SetOnce(500, name="d"))
    before = await table(tower)
    await tower.engine.brought.close()
    await tower.log.append(Append(ts_ms=1, rows=(RowDrop(TABLE, ""),)))
    assert await timer_table.rebuild(tower.log, now_ms=1) == 3
    after = await table(tower)
    assert [[key for key, _ in part] for part in after] == [[key for key, _ in part] for part in before]
    await tower.again()
    await asyncio.sleep(600)
    assert len(await tower.rings("c")) >= 12


@scenario(in_tower)
async def test_compaction_leaves_the_newest_firing_of_each_timer_and_all_that_is_pending(
    tower: Tower,
) -> None:
    await tower.do(SetEvery(7, name="a"))
    await tower.do(SetEvery(5, name="b"))
    await tower.do(SetOnce(3, name="c"))
    await asyncio.sleep(101)
    before, rows = await state_at(tower.log, "timer/bell/b", PendingTimers()), await tower.pending()
    past = tower.engine.plugin.past
    policy = CompactionPolicy(types=past.prunable, before_ms=1 << 60, series=past.series_of)
    assert await compact(tower.log, policy, tower.clock, "cli/root") > 20
    left = [event.type for event in await tower.events("timer/bell/b")]
    assert sorted(left) == ["timer_fired"] * 3 + ["timer_set"] * 3
    assert await state_at(tower.log, "timer/bell/b", PendingTimers()) == before
    await tower.again()
    assert await tower.pending() == rows
    await asyncio.sleep(20)
    assert len(await tower.pending()) == 2


FIRST, SECOND = (Timer("sale/1", name, due_ms, "close", b"{}", 0) for name, due_ms in (("a", 1), ("b", 2)))


class TwoAttempts:
    """Entities of which the first group takes one timer and is not written; the next one takes all."""

    def __init__(self) -> None:
        self.groups = 0
        self.decided: list[Timer] = []

    def together(self) -> "OneGroup":
        self.groups += 1
        return OneGroup(self, refuses=self.groups == 1)

    async def load(self, timers: Sequence[Timer]) -> None:
        """They are there."""

    async def fire(self, timer: Timer) -> None:
        raise AssertionError(timer)


class OneGroup:
    full = False

    def __init__(self, entities: TwoAttempts, *, refuses: bool) -> None:
        self._entities = entities
        self._refuses = refuses
        self._added: list[Timer] = []

    def add(self, timer: Timer, command_id: str) -> bool:
        if self._refuses and self._added:
            return False
        self._added.append(timer)
        return True

    def submit(self) -> None:
        """It is on its way."""

    async def finish(self) -> bool:
        if self._refuses:
            return False
        self._entities.decided += self._added
        return True

    def give_up(self) -> None:
        """Nobody waits."""


def _timer(name: str) -> Timer:
    return Timer("bell/a", name, 10, "ring", b"{}")


def _retries(count_max: int = 2) -> Retries:
    return Retries(count_max=count_max, first_s=1.0, longest_s=3.0)


def test_a_failure_without_room_is_forgotten() -> None:
    retries = _retries(count_max=1)
    retries.add(b"a", _timer("a"), 0.0)
    assert retries.add(b"b", _timer("b"), 0.0) is None
    assert b"b" not in retries.failures


def test_the_changes_that_are_remembered_are_bounded() -> None:
    known = Known()
    known.move(1)
    for head in range(2, 400):
        known.expect(head, {f"n{head}": 0})
        known.move(head)
    assert known.pending("a", 10, 1) is None
    assert known.pending("a", 10, 399) is True


def timer(entity: str = "bell/b", seq: int = 1) -> Timer:
    return Timer(entity, "a", 10, "ring", b"{}", 0, seq)


def seq_of(heard: Heard, timer: Timer) -> int:
    """The head at which a timer of the page that came is certified."""
    [(_, certified)] = heard.certified([(timer.key, timer)])
    return certified.seq


async def test_a_page_certifies_timers_at_the_head_or_at_the_one_before_what_was_heard_meanwhile() -> None:
    log = await faulty_log()
    for _ in range(2):
        await write(log, "timer/bell/b", "timer/bell/c")
    await write(log, "timer/bell/c")
    heard = Heard(log)

    def hear(events: Sequence[StoredEvent]) -> None:
        heard.hear(events, [event for event in events if event.stream.startswith("timer/")])

    log.listen(hear)
    heard.begin()
    await write(log, "timer/bell/c", "other/1")
    assert seq_of(heard, timer()) == 2
    await write(log, "timer/bell/c")
    assert seq_of(heard, timer("bell/c")) == 3
    assert seq_of(heard, timer("bell/c", seq=5)) == 5


async def test_a_page_certifies_nothing_after_a_lost_signal_of_the_log() -> None:
    log = await faulty_log()
    await write(log, "timer/bell/b", "timer/bell/b")
    heard = Heard(log)
    heard.begin()
    await write(log, "other/1")  # which nobody hears
    assert seq_of(heard, timer()) == 1
    heard.begin()
    assert seq_of(heard, timer()) == 2


BELLS = 100
TIMERS_EACH = 10
CALLS_MAX = 185


def test_a_firing_of_a_shared_append_takes_few_calls() -> None:
    calls = 0

    def count(_frame: FrameType, what: str, _of: object) -> None:
        nonlocal calls
        calls += what in ("call", "c_call")

    async def test(tower: Tower) -> None:
        nonlocal calls
        for number in range(BELLS):
            await tower.hang(f"b{number}")
            for one in range(TIMERS_EACH):
                await tower.do(SetOnce(1000, name=f"n{one}"), f"b{number}")
        sys.setprofile(count)
        try:
            await asyncio.sleep(1100)
        finally:
            sys.setprofile(None)
        assert sum([len(await tower.rings(f"b{number}")) for number in range(BELLS)]) == BELLS * TIMERS_EACH

    in_tower(test)
    assert calls / (BELLS * TIMERS_EACH) <= CALLS_MAX
