"""Work of a user that owes time goes on one piece at a time, in the order in which it came."""

import asyncio
from collections.abc import Callable

import pytest

from huahuo.transport.load.fair_queueing import PAID_S_MAX, Crowded, Paying, Turns
from huahuo.transport.load.shares import Shares

pytestmark = pytest.mark.virtual_time

COST_S = 0.01


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


def pieces(paying: Paying, count: int, done: Callable[[int], None]) -> list[asyncio.Task[None]]:
    async def piece(number: int) -> None:
        await paying.paid("user/1")
        done(number)

    return [asyncio.create_task(piece(number)) for number in range(count)]


async def test_a_thousand_pieces_go_in_order_and_each_waits_until_the_one_before_is_paid() -> None:
    debt, loop = Debt(), asyncio.get_running_loop()
    paying = Paying(debt.wait_s)
    went: list[tuple[int, float]] = []

    def done(number: int) -> None:
        went.append((number, loop.time()))
        debt.owe(COST_S)

    debt.owe(COST_S)
    await asyncio.gather(*pieces(paying, 1_000, done))
    assert [number for number, _ in went] == list(range(1_000))
    assert len({at_s for _, at_s in went}) == 1_000, "two went in the same moment"
    assert debt.looks <= 3 * 1_000, "those that wait look at the debt one after the other"
    assert paying.waiting("user/1") == 0


async def test_a_debt_that_is_never_paid_lets_one_piece_go_in_five_seconds() -> None:
    loop = asyncio.get_running_loop()
    paying, went = Paying(lambda _user: 1e9), list[float]()
    began_s = loop.time()
    await asyncio.gather(*pieces(paying, 4, lambda _: went.append(loop.time() - began_s)))
    assert went == pytest.approx([PAID_S_MAX * number for number in range(1, 5)])


async def test_a_piece_that_leaves_keeps_nobody_waiting() -> None:
    debt = Debt()
    paying, went = Paying(debt.wait_s), list[int]()
    debt.owe(COST_S)
    tasks = pieces(paying, 3, went.append)
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    await tasks[2]
    assert went == [2]


async def test_pieces_of_a_user_that_is_alone_or_owes_nothing_do_not_wait() -> None:
    paying, went = Paying(lambda _user: 0.0), list[int]()
    began_s = asyncio.get_running_loop().time()
    await asyncio.gather(*pieces(paying, 100, went.append))
    assert asyncio.get_running_loop().time() == began_s
    assert paying.waiting("user/1") == 0


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
