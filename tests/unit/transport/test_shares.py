"""What one user may take of the loop's time and of the process's memory."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.load.intake import Intake, Load
from huahuo.transport.load.shares import (
    FACTOR_MAX,
    LOOK_S,
    SHARE,
    Budget,
    BudgetLimits,
    Estimates,
    Overhead,
    Shares,
)


def storm(shares: Shares, users: int, seconds: float, step_s: float = 0.01) -> dict[str, float]:
    """The time that greedy users get, in parallel with a user that asks for little."""
    used = {f"user/{n}": 0.0 for n in range(users)}
    now_s = 0.0
    while now_s < seconds:
        shares.charge("user/calm", 0.000004, now_s)  # less than the share that 100 others leave
        assert shares.wait_s("user/calm", now_s) == 0
        now_s += 0.001
        for user in used:
            if shares.wait_s(user, now_s) == 0:
                now_s += step_s
                used[user] += step_s
                shares.charge(user, step_s, now_s)
    return used


def test_one_user_who_storms_gets_the_share_and_no_more() -> None:
    used = storm(Shares(), 1, 20)
    assert sum(used.values()) / 20 == pytest.approx(SHARE, rel=0.1)


def test_a_hundred_users_who_storm_share_it_and_none_is_starved() -> None:
    used = storm(Shares(), 100, 60)
    assert min(used.values()) > 0.5 * max(used.values())


def test_users_who_left_take_no_part_of_the_share() -> None:
    shares = Shares()
    for number in range(50):
        shares.charge(f"user/{number}", 0.3, 0)
    assert shares.over == 50
    for step in range(2000):
        shares.charge("user/calm", 0.0001, 50 + step / 100)
    assert shares.over == 0


def looked(charged_s: float, spent_s: float, looks: int = 20) -> Overhead:
    """After `looks` spans of `LOOK_S`, with the same charge and the same time spent in each."""
    overhead = Overhead(0.0, 0.0)
    for n in range(1, looks + 1):
        overhead.charged(charged_s)
        overhead.look(n * LOOK_S, n * spent_s)
    return overhead


def test_the_factor_has_a_bound() -> None:
    assert looked(charged_s=0.02, spent_s=1.0).factor == pytest.approx(FACTOR_MAX, rel=0.01)


LIMITS = BudgetLimits(process=100, user=40, connection=25)


def test_a_connection_whose_buffer_does_not_shrink_is_stuck() -> None:
    purse = Budget(LIMITS).purse("user/1")
    assert purse.stuck_s(5) == 0
    purse.buffer(20, 5)
    purse.buffer(20, 8)
    assert purse.stuck_s(9) == 4
    purse.buffer(19, 9)
    assert purse.stuck_s(9) == 0


def test_what_is_kept_for_speed_gives_way() -> None:
    budget = Budget(LIMITS)
    assert budget.keep(90)

    def make_room(size: int) -> None:
        budget.drop(size)

    budget.make_room = make_room
    assert budget.purse("user/1").reserve(25, 0)
    assert budget.used == 100


def test_an_estimate_is_the_last_size_of_that_kind() -> None:
    estimates = Estimates()
    unknown = estimates.of("user/1", "list")
    estimates.learn("user/1", "list", 7)
    assert (estimates.of("user/1", "list"), estimates.of("user/2", "list")) == (7, unknown)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(["reserve", "correct", "release", "buffer", "close"]),
            st.integers(0, 30),
        )
    )
)
def test_the_budget_is_the_sum_of_what_its_connections_hold(steps: list[tuple[int, str, int]]) -> None:
    budget = Budget(LIMITS)
    purses = [budget.purse(f"user/{number // 2}") for number in range(4)]
    reserved = [0] * 4
    for number, what, size in steps:
        purse = purses[number]
        if what == "reserve" and purse.reserve(size, 0):
            reserved[number] += size
        elif what == "correct":
            purse.correct(reserved[number], size)
            reserved[number] = size
        elif what == "release":
            purse.release(reserved[number])
            reserved[number] = 0
        elif what == "buffer":
            purse.buffer(size, 0)
        elif what == "close":
            purse.close()
        assert budget.used == sum(purse.used for purse in purses)
        assert budget.of("user/0") == purses[0].used + purses[1].used


MOST = 8 << 20
USERS = ("user/1", "user/2", "user/3")
_DO = st.sampled_from(("comes", "leaves", "is done", "is shared"))
STEPS = st.lists(st.tuples(_DO, st.sampled_from(USERS), st.integers(1, 400_000), st.integers(0, 40)))


@given(STEPS)
def test_it_is_never_over_whatever_comes_and_all_is_free_in_the_end(
    steps: list[tuple[str, str, int, int]],
) -> None:
    async def main() -> None:
        intake, loads, working = Intake(MOST), list[Load](), list[Load]()
        for what, user, size, at in steps:
            if what == "comes":
                load = Load(intake, user)
                if load.take(size) or load.wait(1000, lambda: None):
                    loads.append(load)
            elif loads and what == "is shared":
                load = loads[at % len(loads)]
                if load.is_in:
                    load.share()
                    working.append(load)
            elif loads:
                loads.pop(at % len(loads)).close()
            assert 0 <= intake.used <= MOST
            assert sum(map(intake.of, USERS)) <= intake.used
        while loads:
            loads.pop().close()
        assert intake.waiting == 0
        for load in working:
            load.close()
        assert intake.used == 0

    asyncio.run(main())


async def test_what_waits_comes_in_once_there_is_room_and_a_cancelled_one_does_not() -> None:
    intake = Intake(MOST)
    first, second, third = (Load(intake, user) for user in USERS)
    assert first.take(500_000)
    assert not second.take(500_000)
    assert not third.take(500_000)
    waiting = [asyncio.create_task(load.waited(10, 60)) for load in (second, third)]
    await asyncio.sleep(0)
    assert intake.waiting == 2
    waiting[0].cancel()
    second.close()
    first.close()
    assert await waiting[1]
    third.close()
    assert (intake.used, intake.waiting) == (0, 0)


async def test_what_finds_no_room_in_time_is_refused_and_holds_nothing() -> None:
    intake = Intake(MOST)
    first, late = Load(intake, "user/1"), Load(intake, "user/2")
    assert first.take(500_000)
    assert not late.take(500_000)
    assert not await late.waited(10, 0)
    assert (intake.of("user/2"), intake.waiting, intake.refused) == (0, 0, 1)
