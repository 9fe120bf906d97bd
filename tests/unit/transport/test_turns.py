"""Large answers of one user wait for each other, and long work runs in slices."""

import asyncio
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from huahuo.transport.load.fair_queueing import AT_ONCE, REST_S, Crowded, Place, Turns
from huahuo.transport.load.shares import Shares

pytestmark = pytest.mark.virtual_time


def turns(**options: Any) -> Turns:
    return Turns(Shares(), asyncio.get_running_loop().time, **options)


def owe(made: Turns, user: str, seconds: float) -> None:
    """Let a user owe time while other users are active."""
    now_s = asyncio.get_running_loop().time()
    made.shares.charge("user/9", 0.001, now_s)
    made.shares.charge(user, seconds, now_s)


async def test_a_few_of_a_user_go_at_once_and_the_rest_in_order() -> None:
    made = turns()
    began: list[int] = []
    go = asyncio.Event()

    async def work(number: int) -> None:
        async with made.turn("user/1"):
            began.append(number)
            await go.wait()

    tasks = [asyncio.create_task(work(number)) for number in range(2 * AT_ONCE)]
    await asyncio.sleep(1)
    assert began == list(range(AT_ONCE))
    assert made.waiting == AT_ONCE
    go.set()
    await asyncio.gather(*tasks)
    assert began == list(range(2 * AT_ONCE))
    assert made.waiting == 0


async def test_work_without_a_task_and_tasks_have_their_turns_in_the_order_in_which_they_came() -> None:
    made, began, go = turns(), list[int](), asyncio.Event()

    async def work(number: int, place: Place | None = None) -> None:
        async with made.turn("user/1", place):
            began.append(number)
            await go.wait()

    tasks: list[asyncio.Task[None]] = []

    def begin(number: int, place: Place) -> None:
        tasks.append(asyncio.create_task(work(number, place)))

    for number in range(3 * AT_ONCE):
        if number % 2:
            tasks.append(asyncio.create_task(work(number)))
            await asyncio.sleep(0)
        else:
            made.stand_in_line("user/1", partial(begin, number))
    await asyncio.sleep(1)
    assert (sorted(began), made.waiting) == (list(range(AT_ONCE)), 2 * AT_ONCE)
    go.set()
    await asyncio.sleep(1)
    assert sorted(began[: 2 * AT_ONCE]) == list(range(2 * AT_ONCE))
    assert (sorted(began), made.waiting) == (list(range(3 * AT_ONCE)), 0)
    await asyncio.gather(*tasks)


async def test_a_place_that_is_left_is_given_to_the_next_whether_it_waited_or_had_its_turn() -> None:
    made, began = turns(waiting_max=2), list[int]()

    def begin(number: int, _place: Place) -> None:
        began.append(number)

    places = [made.stand_in_line("user/1", partial(begin, number)) for number in range(AT_ONCE + 2)]
    assert made.stand_in_line("user/1", partial(begin, -1)) is None  # too many wait
    assert began == list(range(AT_ONCE))
    waiting, last, first = places[AT_ONCE], places[-1], places[0]
    assert waiting is not None
    assert last is not None
    assert first is not None
    waiting.leave()
    for _ in range(2):  # only the first time counts
        first.leave()
    assert (began, made.waiting) == ([*range(AT_ONCE), AT_ONCE + 1], 0)
    for place in places[1:]:
        assert place is not None
        place.leave()
    async with asyncio.timeout(0.001), made.turn("user/1"):
        pass


async def test_places_that_are_left_together_do_not_get_each_others_turns() -> None:
    made, began = turns(), list[int]()

    def begin(number: int, _place: Place) -> None:
        began.append(number)

    async with made.turn("user/1"):
        owe(made, "user/1", 0.05)
        places = [made.stand_in_line("user/1", partial(begin, number)) for number in range(3)]
        await asyncio.sleep(1)  # the debt is paid, and none of them is asked while another has its turn
        *together, last = [place for place in places if place is not None]
        Place.leave_all(together)
        assert (began, made.waiting) == ([2], 0)
        last.leave()
    Place.leave_all(())


async def test_another_user_does_not_wait_for_a_users_line() -> None:
    made = turns()

    async def for_ever() -> None:
        async with made.turn("user/1"):
            await asyncio.sleep(1e9)

    tasks = [asyncio.create_task(for_ever()) for _ in range(100)]
    await asyncio.sleep(0)
    async with asyncio.timeout(0.001), made.turn("user/2"):
        pass
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(0.001), made.turn("user/1"):
        pass


async def test_a_user_that_owes_time_waits_until_it_is_paid() -> None:
    made = turns()
    owe(made, "user/1", 1.0)
    wait_s = made.shares.wait_s("user/1", 0)
    async with made.turn("user/1"):
        assert asyncio.get_running_loop().time() >= min(wait_s, 1.9)


async def test_more_than_the_bound_of_one_user_are_refused() -> None:
    made = turns(waiting_max=2)

    async def work() -> None:
        async with made.turn("user/1"):
            await asyncio.sleep(1)

    tasks = [asyncio.create_task(work()) for _ in range(AT_ONCE + 2)]
    await asyncio.sleep(0)
    assert made.crowded("user/1")
    with pytest.raises(Crowded):
        async with made.turn("user/1"):
            pass
    await asyncio.gather(*tasks)
    assert not made.crowded("user/1")


async def test_of_many_users_each_has_an_even_part_of_what_may_wait() -> None:
    made = turns(all_waiting_max=8)

    async def work(user: str) -> None:
        async with made.turn(user):
            await asyncio.sleep(1)

    def ask(user: str, count: int) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(work(user)) for _ in range(count)]

    tasks = ask("user/1", AT_ONCE + 3)
    await asyncio.sleep(0)
    assert not made.crowded("user/1"), "alone, it may have eight"
    tasks += ask("user/2", AT_ONCE) + ask("user/3", AT_ONCE) + ask("user/4", AT_ONCE + 1)
    await asyncio.sleep(0)
    assert made.crowded("user/1"), "of four, each may have two"
    assert made.crowded("user/4")
    assert not made.crowded("user/2")
    assert made.waiting == 4
    await asyncio.gather(*tasks)
    assert made.waiting == 0


async def test_once_all_that_may_wait_does_only_those_with_less_than_their_part_may_ask() -> None:
    made = turns(all_waiting_max=4)

    async def work(user: str) -> None:
        async with made.turn(user):
            await asyncio.sleep(1)

    tasks = [asyncio.create_task(work("user/1")) for _ in range(AT_ONCE + 4)]
    tasks += [asyncio.create_task(work("user/2")) for _ in range(AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(Crowded):
        await work("user/1")
    tasks.append(asyncio.create_task(work("user/2")))
    await asyncio.sleep(0)
    assert made.waiting == 5
    left = asyncio.create_task(work("user/2"))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.gather(*tasks, left, return_exceptions=True)
    assert made.waiting == 0


async def test_however_many_users_come_one_after_the_other_what_may_wait_is_bounded() -> None:
    made = turns(all_waiting_max=64)
    refused: list[str] = []

    async def work(user: str) -> None:
        try:
            async with made.turn(user):
                await asyncio.sleep(1)
        except Crowded:
            refused.append(user)

    tasks: list[asyncio.Task[None]] = []
    users = [f"user/{number}" for number in range(40)]
    for user in users:  # of forty, each may have one, but the first ones came when they might have more
        tasks += [asyncio.create_task(work(user)) for _ in range(AT_ONCE + 64)]
        await asyncio.sleep(0)
    assert made.waiting <= 2 * 64 + len(users)
    tasks += [asyncio.create_task(work("user/last")) for _ in range(AT_ONCE + 1)]
    await asyncio.sleep(0)
    assert "user/last" not in refused, "who has nothing that waits may ask"
    assert made.crowded("user/last")
    await asyncio.gather(*tasks)
    assert made.waiting == 0


async def test_one_that_leaves_the_line_when_it_ends_does_not_take_the_next_line_with_it() -> None:
    made = turns()
    begun: list[int] = []
    ends, never = asyncio.Event(), asyncio.Event()

    async def work(number: int, end: asyncio.Event) -> None:
        async with made.turn("user/1"):
            begun.append(number)
            await end.wait()

    first = [asyncio.create_task(work(number, ends)) for number in range(AT_ONCE + 1)]
    await asyncio.sleep(0)
    ends.set()
    later = [asyncio.create_task(work(number, never)) for number in range(10, 10 + AT_ONCE)]
    first[AT_ONCE].cancel()  # the others end and the later ones begin before it notices
    for _ in range(4):
        await asyncio.sleep(0)
    later += [asyncio.create_task(work(number, never)) for number in range(20, 20 + AT_ONCE)]
    for _ in range(4):
        await asyncio.sleep(0)
    assert [number for number in begun if number >= 10] == list(range(10, 10 + AT_ONCE))
    never.set()
    await asyncio.gather(*first, *later, return_exceptions=True)
    assert made.waiting == 0


async def test_slices_of_all_users_go_one_at_a_time_with_a_rest_between() -> None:
    made = turns()
    owe(made, "user/1", 0.0)
    loop = asyncio.get_running_loop()
    at_s: list[tuple[float, str]] = []

    async def work(user: str) -> None:
        for _ in range(5):
            await made.slice(user, lambda: at_s.append((loop.time(), user)))

    await asyncio.gather(*(work(f"user/{n}") for n in range(10)))
    times = [time_s for time_s, _ in at_s]
    assert all(later - earlier >= REST_S * 0.99 for earlier, later in pairwise(times))
    assert len({user for _, user in at_s[:10]}) >= 9  # the first goes at once, and again behind the others


async def test_a_slice_whose_owner_left_holds_nobody_up() -> None:
    made = turns()
    tasks = [asyncio.create_task(made.slice("user/1", lambda: None)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[2].exception() is None


async def test_pieces_are_joined_slice_by_slice() -> None:
    made = turns()
    assert await made.join("user/1", iter([b"ab", b"c", b"de"]), 5) == b"abcde"


async def test_what_is_longer_than_may_be_is_not_made_to_its_end() -> None:
    pieces = iter([b"abc", b"def", b"ghi"])
    assert await turns().join("user/1", pieces, 5) is None
    assert list(pieces) == [b"ghi"]
