"""The budget of what comes in: never over, a share for each user, and all of it free in the end."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.load.intake import Intake, Load, weight

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


def test_one_user_leaves_room_for_the_next_one() -> None:
    intake = Intake(MOST)
    greedy = [load for load in (Load(intake, "user/1") for _ in range(1000)) if load.take(1000)]
    assert weight(1000) * len(greedy) == intake.of("user/1") <= MOST / 2
    assert Load(intake, "user/2").take(50_000)


def test_a_body_larger_than_all_goes_alone() -> None:
    intake = Intake(MOST)
    large, other = Load(intake, "user/1"), Load(intake, "user/2")
    assert large.take(50 << 20)
    assert intake.used <= MOST
    assert not other.take(500_000)
    large.close()
    assert other.take(500_000)


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


async def test_work_that_outlives_its_client_counts_until_it_ends() -> None:
    intake = Intake(MOST)
    load = Load(intake, "user/1")
    assert load.take(1000)
    ended = load.share()
    load.close()
    assert intake.used == weight(1000)
    ended(None)
    assert intake.used == 0
