"""Users share the loop: turns, rounds and debts."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from huahuo.transport.load import fair_queueing
from huahuo.transport.load.fair_queueing import (
    AT_ONCE,
    VISIT_S,
    Crowded,
    Lines,
    Rounds,
    Turns,
)
from huahuo.transport.load.shares import Shares

pytestmark = pytest.mark.virtual_time


def turns(**options: Any) -> Turns:
    return Turns(Shares(), asyncio.get_running_loop().time, **options)


def owe(made: Turns, user: str, seconds: float) -> None:
    """Let a user owe time while other users are active."""
    now_s = asyncio.get_running_loop().time()
    made.shares.charge("user/9", 0.001, now_s)
    made.shares.charge(user, seconds, now_s)


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


COST_S = 0.0012


class World:
    """Rounds on a clock that only work moves. Each turn of the loop is one `sleep(0)`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.rounds = Rounds(lambda: self.now_s)
        self.went: list[str] = []

    def piece(self, owner: str, name: str = "", cost_s: float = COST_S) -> Callable[[], None]:
        def go() -> None:
            self.now_s += cost_s
            self.went.append(name or owner)

        return go

    def ask(self, owner: str, name: str = "", *, short: bool = True) -> None:
        """As a connection does when a message has come."""
        if self.rounds.may_begin(owner):
            self.piece(owner, name)()
        else:
            self.rounds.wait(owner, self.piece(owner, name), short=short)

    async def turn(self) -> None:
        await asyncio.sleep(0)

    async def until_idle(self) -> None:
        while self.rounds.waiting:  # noqa: ASYNC110  virtual time
            await asyncio.sleep(fair_queueing.HELD_S)


async def test_one_who_asks_now_and_then_waits_for_two_turns_however_many_others_wait() -> None:
    world = World()
    for number in range(1_000):
        world.ask(f"user/{number % 100}")
    await world.turn()
    for count in range(1, 21):
        world.rounds.wait("now and then", world.piece("now and then", cost_s=COST_S / 10))
        await world.turn()
        await world.turn()
        assert world.went.count("now and then") == count
        for _ in range(3):
            await world.turn()
    assert world.rounds.waiting > 500


async def test_all_who_wait_get_the_same() -> None:
    world = World()
    for number in range(3_000):
        world.ask(f"user/{number % 100 if number < 1_000 else 0}")
    while len(world.went) < 800:
        await world.turn()
    counts = Counter(world.went[200:])
    assert len(counts) == 100
    assert max(counts.values()) - min(counts.values()) <= VISIT_S / COST_S + 1


async def test_one_without_room_stands_still_while_others_pass() -> None:
    world, full = World(), {"full"}
    world.rounds.room.append(lambda owner: owner not in full)
    for number in range(30):
        world.ask(("full", "free")[number % 2])
    await asyncio.sleep(1.0)
    assert world.went.count("free") == 15
    stood = world.went.count("full")
    assert stood < 15
    full.clear()
    await world.until_idle()
    assert world.went.count("full") == 15


async def test_a_fault_in_one_message_keeps_no_other_waiting() -> None:
    world = World()
    for _ in range(5):
        world.ask("a")

    def fault() -> None:
        raise ValueError

    world.rounds.wait("a", fault)
    world.ask("a", "after")
    world.ask("b", "other")
    await world.until_idle()
    assert {"after", "other"} <= set(world.went)


DEBT_S = 0.01


class Debt:
    """What one user owes: it is paid at half of the time that passes. Counts how often somebody looks."""

    def __init__(self) -> None:
        self.looks = 0
        self._until_s = asyncio.get_running_loop().time()

    def owe(self, seconds: float) -> None:
        self._until_s = max(self._until_s, asyncio.get_running_loop().time()) + 2 * seconds

    def wait_s(self, _user: str) -> float:
        self.looks += 1
        return self._until_s - asyncio.get_running_loop().time()


def pieces(paying: Lines, count: int, done: Callable[[int], None]) -> list[asyncio.Task[None]]:
    async def piece(number: int) -> None:
        place = await paying.turn("user/1")
        asyncio.get_running_loop().call_soon(place.leave)
        done(number)

    return [asyncio.create_task(piece(number)) for number in range(count)]


async def test_a_thousand_pieces_go_in_order_and_each_waits_until_the_one_before_is_paid() -> None:
    debt, loop = Debt(), asyncio.get_running_loop()
    paying = Lines(debt.wait_s)
    went: list[tuple[int, float]] = []

    def done(number: int) -> None:
        went.append((number, loop.time()))
        debt.owe(DEBT_S)

    debt.owe(DEBT_S)
    await asyncio.gather(*pieces(paying, 1_000, done))
    assert [number for number, _ in went] == list(range(1_000))
    assert len({at_s for _, at_s in went}) == 1_000, "two went in the same moment"
    assert debt.looks <= 3 * 1_000, "those that wait look at the debt one after the other"
    assert paying.waiting == 0


async def test_a_request_over_http_is_refused_where_too_many_of_its_user_wait() -> None:
    loop = asyncio.get_running_loop()
    turns = Turns(Shares(), loop.time, waiting_max=2)
    turns.charge("user/9", 0.001)
    turns.charge("user/1", 1.0)
    waiting = [asyncio.create_task(turns.paid_soon("user/1")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Crowded):
        await turns.paid_soon("user/1")
    await turns.paid_soon("user/2")
    await asyncio.gather(*waiting)
