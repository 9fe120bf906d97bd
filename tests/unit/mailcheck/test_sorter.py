"""Pages that wait for their order hold the loop one after the other, and do not drop each other's."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from huahuo.mailcheck.api import mailbox_list
from huahuo.mailcheck.api.handlers import Sorter
from huahuo.mailcheck.api.mailbox_list import Order
from huahuo.mailcheck.records import Row
from tests.support.worlds.mail_world import MailWorld, in_mail_world

ROWS = [
    Row(
        id=number, user_id=7, email=f"{number * 7919 % 10_007}@x.example", mail_type="imap", server="s",
        port=1, use_ssl=True, created_at="",
    )
    for number in range(10_000)
]  # fmt: skip


class Turns:
    """Counts the steps of sorting in each turn of the loop."""

    def __init__(self) -> None:
        self.steps: Counter[int] = Counter()
        self._number = 0
        self._next()

    def _next(self) -> None:
        self._number += 1
        self._handle = asyncio.get_running_loop().call_soon(self._next)

    def note(self) -> None:
        self.steps[self._number] += 1

    def stop(self) -> None:
        self._handle.cancel()


class Noted(Order):
    """An order whose steps are counted."""

    def __init__(self, field: str, turns: Turns) -> None:
        super().__init__(field, ROWS)
        self._turns = turns

    def step(self) -> None:
        self._turns.note()
        super().step()


async def test_thirty_pages_that_wait_for_orders_do_one_step_a_turn_of_the_loop() -> None:
    turns, sorter = Turns(), Sorter()
    orders = [Noted(field, turns) for field in ("email", "status", "id")]
    await asyncio.gather(*(sorter.ready(orders[number % 3]) for number in range(30)))
    turns.stop()
    assert all(order.ready for order in orders)
    assert max(turns.steps.values()) == 1


async def test_a_page_that_leaves_lets_the_others_go_on() -> None:
    turns, sorter = Turns(), Sorter()
    order = Noted("email", turns)
    waiting = [asyncio.ensure_future(sorter.ready(order)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[1].cancel()
    await waiting[2]
    turns.stop()
    assert order.ready


def test_pages_in_more_orders_than_are_kept_sort_at_most_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class Counted(Order):
        def __init__(self, field: str, rows: Sequence[Row]) -> None:
            made.append(field)
            super().__init__(field, rows)

    monkeypatch.setattr(mailbox_list, "Order", Counted)

    async def test(world: MailWorld) -> None:
        await world.add("a@example.com")
        fields = ["email", "status", "last_check_time", "id"] * 5
        pages = await asyncio.gather(*(world.do("get_all_emails", sort=field, limit=1) for field in fields))
        assert [page["type"] for page in pages] == ["emails_list"] * len(fields)
        assert len(made) <= len(fields)

    in_mail_world(test)
