"""The whole service under random faults: what failed once, a few seeds, and the simulator's own promises.

`make sim` and `make proof` run many more: docs/testing.md.
"""

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import msgspec
import pytest

from huahuo.app.background_work import Storing
from huahuo.eventstore.memory import ModelDisk
from tests.support.proofs import WHOLE, whole_only
from tests.support.simulator import __main__ as simulator
from tests.support.simulator import loop
from tests.support.simulator.__main__ import KEPT
from tests.support.simulator.marks import SOMETIMES, Marks
from tests.support.simulator.plan import (
    FAULTS,
    KINDS,
    Plan,
    plan,
    smaller,
    tours,
    words,
)
from tests.support.simulator.report import Result, Sum, kinds_of, run, shrunk

SEEDS = range(1000, 1016) if WHOLE else range(1001, 1003)
"""In full one of each remainder, and so of each kind (`plan.py`)."""
HOURS = 0.1 if WHOLE else 0.03
HARD = Plan(
    seed=7,
    seconds=90,
    devices=5,
    users=2,
    engine="memory",
    pace_s=3,
    faults={"cut in sync": 12, "power": 25, "reset": 8, "restart device": 15},
    work={"publish": 6, "burst": 2, "open": 3, "add": 6, "stop": 1, "again": 1, "foreign": 1, "job": 1},
)
"""Many crashes in a short time."""
PATIENT = replace(
    HARD, seconds=60, devices=6, faults={"partition": 15, "power": 20, "stop device": 15}, heartbeat_s=4
)
"""Clients that give up connections which nobody ended, and cancel all that waits on them."""


def kept() -> list[str]:
    lines = [line for line in KEPT.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return lines if WHOLE or os.environ.get("CI") else lines[::3]


SHARED = replace(
    HARD, seconds=60, faults={"kill": 15, "power": 20, "log cut off": 20, "stop server": 20}, nodes=3
)
"""Whole services over one ordered log."""


ERASING = replace(HARD, seconds=40, engine="sqlite", erases=True)


@pytest.fixture(scope="module")
def hard() -> Result:
    return run(HARD)


@cache
def tour(name: str) -> tuple[Plan, Result]:
    """One of the tours, which `make proof` begins with, and what it told: it runs once for all who ask."""
    chosen: dict[str, Callable[[Plan], bool]] = {
        "deploy": lambda one: "deploy" in one.faults,
        "roll": lambda one: "roll" in one.faults,
        "grants in memory": lambda one: one.grants > 0 and one.engine == "memory" and one.nodes == 1,
        "grants on a disk": lambda one: one.grants > 0 and one.engine == "sqlite",
        "grants on nodes": lambda one: one.grants > 0 and one.nodes > 1,
    }
    found = next(filter(chosen[name], tours()))
    return found, run(found)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # in full some take a minute of processor time
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_doubled_reordered_or_leaked(seed: int) -> None:
    done = run(plan(seed, HOURS, "memory"))
    assert not done.failed, done.plan


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_failed_once_holds_for_ever() -> None:
    for line in kept():
        assert not run(msgspec.json.decode(line, type=Plan)).failed, line


@pytest.mark.slow
def test_a_run_with_many_crashes_proves_something(hard: Result) -> None:
    assert not hard.failed
    for what in ("ack", "crash", "reconnect", "effect", "timer", "delivery"):
        assert hard.counts[what] > 0, what
    assert {"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I13", "I14", "I15", "I26"} <= set(hard.shown)


@pytest.mark.slow
def test_whole_services_over_one_ordered_log_keep_every_promise() -> None:
    done = run(SHARED)
    assert not done.failed
    assert {"I1", "I2", "I4", "I6", "I7", "I10", "I13", "I26", "I27"} <= set(done.shown)
    assert done.marks["client moved to another node"]
    assert done.marks["in-doubt proposal resolved"]
    assert run(SHARED).trace == done.trace


@pytest.mark.slow
def test_newer_code_goes_on_with_what_older_code_began() -> None:
    done = run(replace(HARD, seconds=60, faults={"deploy": 20, "kill": 15}))
    assert not done.failed
    assert done.struck["deploy"]
    assert {"I1", "I6", "I7", "I10", "I13", "I26"} <= set(done.shown)


@pytest.mark.slow
def test_what_a_removed_kind_wrote_is_for_administrators_alone_across_a_deploy() -> None:
    _, done = tour("deploy")
    assert not done.failed
    assert done.marks["removed kind resumed by an administrator"]
    assert done.marks["removed kind refused to its user"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grants in memory", "grants on a disk"])
def test_accounts_with_grants_live_on_through_crashes_between_a_refresh_and_its_use(name: str) -> None:
    plan, done = tour(name)
    assert not done.failed
    assert {"I22", "I23"} <= set(done.shown)
    assert done.marks["crash between refresh and use"]
    assert done.marks["refresh token given up"]
    assert not WHOLE or run(plan).trace == done.trace


@pytest.mark.slow
def test_nodes_of_two_versions_keep_every_promise() -> None:
    plan, done = tour("roll")
    assert not done.failed
    assert {"I1", "I7", "I10", "I13", "I26", "I27"} <= set(done.shown)
    for mark in (
        "nodes of two versions at once",
        "older code wrote behind newer code",
        "newer action refused by an older node",
        "node went back to older code",
        "all nodes went back to older code",
    ):
        assert done.marks[mark], mark
    assert not WHOLE or run(plan).trace == done.trace


@pytest.mark.slow
def test_accounts_with_grants_live_on_when_nodes_die_right_behind_new_tokens() -> None:
    _, done = tour("grants on nodes")
    assert not done.failed
    assert {"I22", "I23", "I27"} <= set(done.shown)
    assert done.marks["grant renewed by another node"]
    assert done.marks["crash between refresh and use"]


@pytest.mark.slow
def test_of_a_user_who_was_erased_among_crashes_no_file_has_anything() -> None:
    done = run(ERASING)
    assert not done.failed
    assert done.marks["user erased"]
    assert "I17" in done.shown


@pytest.mark.slow
def test_an_erasure_that_leaves_something_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def erase(*_: object) -> None:
        pass

    monkeypatch.setattr(Storing, "erase", erase)
    assert "I17" in kinds_of(run(ERASING))


@pytest.mark.slow
def test_the_same_plan_gives_the_same_trace(hard: Result) -> None:
    again = run(HARD)
    assert again.trace == hard.trace
    assert again.counts == hard.counts
    assert run(replace(HARD, seed=8, seconds=20)).trace != run(replace(HARD, seed=9, seconds=20)).trace


@pytest.mark.slow
def test_another_process_gives_the_same_trace() -> None:
    """Where objects lie and how strings are hashed differ there: no set's order may show."""
    asked = msgspec.json.encode(PATIENT).decode()
    here = run(PATIENT)
    command = [sys.executable, "-m", "tests.support.simulator", "--no-shrink", "--plan", asked]
    there = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "5"}, capture_output=True, text=True, check=False
    )
    assert f"trace {here.trace}" in there.stdout, there.stdout + there.stderr


@pytest.mark.slow
def test_a_disk_that_does_not_sync_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ModelDisk.sync

    def sync(disk: ModelDisk, ticket: int) -> None:
        if disk.syncs:
            disk.syncs += 1
        else:
            honest(disk, ticket)  # the log's birth

    monkeypatch.setattr(ModelDisk, "sync", sync)
    # With seed 7 the model of the disk notices first that what it cuts was never safe.
    done = run(replace(HARD, seed=8, faults={"power": 15.0}))
    assert {"I1", "I5"} & set(kinds_of(done)), done.failed


def test_a_gate_that_finished_no_seed_has_proved_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulator, "tours", list)
    monkeypatch.setattr(Sum, "missing", lambda _sum, **_how: [])
    options = argparse.Namespace(gate=True, within_s=1e-9, hours=None, engine=None, jobs=1, shrink=False)
    assert simulator.run_many(range(2), options)
    assert "NOT PROVED: no seed was over in time" in capsys.readouterr().out


def test_a_run_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "STEPS_MAX", 1000)
    endless = loop.Loop(seed=1)

    def tick() -> None:
        endless.call_later(1.0, tick)

    tick()
    with pytest.raises(RuntimeError, match="the run is not over"):
        endless.run_forever()
    endless.close()


def test_every_kind_of_run_is_in_sixteen_seeds() -> None:
    assert [plan(seed).kind for seed in range(16)] == list(KINDS)
    assert {plan(seed).engine for seed in range(32) if plan(seed).kind == "dying"} == {"memory", "sqlite"}


def test_every_kind_of_fault_is_in_some_plan() -> None:
    struck = Counter(kind for seed in range(200) for kind in plan(seed).faults)
    assert set(struck) == set(FAULTS)


def test_a_failure_shrinks_to_what_is_needed_for_it() -> None:
    def again(asked: Plan) -> Result:
        broken = "power" in asked.faults and asked.work["burst"] > 0
        return msgspec.structs.replace(_nothing(asked), failed=("I1: lost",) if broken else ())

    small = shrunk(replace(HARD, devices=16, seconds=3600), ["I1"], again)
    assert list(small.faults) == ["power"]
    assert [kind for kind, weight in small.work.items() if weight] == ["burst"]
    assert (small.devices, small.seconds <= 60) == (2, True)
    assert all(each.seed == HARD.seed for each in smaller(HARD))


def test_a_plan_can_be_repeated_from_its_text() -> None:
    again = msgspec.json.decode(msgspec.json.encode(HARD), type=Plan)
    assert again == HARD
    assert "5 devices" in words(again)


@whole_only
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tours_reach_every_mark_and_judge_every_predicate() -> None:
    total = Sum()
    for one in tours():
        total.add(run(one))
    assert total.missing() == []
    assert total.failed == []


def test_the_table_says_of_each_goal_whether_it_was_reached() -> None:
    total = Sum()
    total.add(msgspec.structs.replace(_nothing(HARD), counts={"crash": 5_000, "reconnect": 99_999}))
    assert total.goals() == [
        "MISSED: client-hours 0 of 1,000", "reached: crash 5,000 of 5,000",
        "MISSED: reconnect 99,999 of 100,000",
    ]  # fmt: skip
    assert total.short_of_goals() == ["client-hours: 0 of 1,000", "reconnect: 99,999 of 100,000"]
    assert "reached: crash 5,000 of 5,000" in total.table("0-9", 1.0)


def test_a_mark_that_was_never_hit_is_missed() -> None:
    total = Sum()
    total.add(_nothing(HARD))
    assert f"never hit: {SOMETIMES[0]}" in total.missing()
    assert "none of: crash" in total.missing()
    with pytest.raises(KeyError):
        Marks().sometimes("a mark that nobody declared")


def _nothing(asked: Plan) -> Result:
    return Result(asked.seed, "{}", "mixed", 0.0, "", 0, (), (), {}, {}, {}, 0)
