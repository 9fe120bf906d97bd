"""The waiting room in front of the log's queue."""

import asyncio

from eventstore.gate import Gate
from tests.support.logs import looped


async def settle() -> None:
    """Let every woken task run."""
    for _ in range(3):
        await asyncio.sleep(0)


@looped
async def test_what_fits_goes_in_at_once() -> None:
    gate = Gate(items_max=2, bytes_max=100)
    assert gate.enter_now(50)
    assert gate.enter_now(50)
    assert not gate.enter_now(0)


@looped
async def test_the_room_is_bounded_by_bytes_too() -> None:
    gate = Gate(items_max=10, bytes_max=100)
    assert gate.enter_now(60)
    assert not gate.enter_now(41)
    assert gate.enter_now(40)


@looped
async def test_something_larger_than_the_room_gets_in_alone() -> None:
    gate = Gate(items_max=10, bytes_max=100)
    assert gate.enter_now(1000)
    assert not gate.enter_now(1)
    gate.leave(1, 1000)
    assert gate.enter_now(1)


@looped
async def test_those_outside_come_in_as_they_came_and_nobody_overtakes() -> None:
    gate = Gate(items_max=10, bytes_max=100)
    assert gate.enter_now(100)
    entered: list[int] = []

    async def visitor(number: int, size: int) -> None:
        await gate.enter(size)
        entered.append(number)

    tasks = [asyncio.ensure_future(visitor(n, size)) for n, size in enumerate((90, 5, 90, 1))]
    await settle()
    assert not gate.enter_now(0)
    gate.leave(1, 100)
    assert not gate.enter_now(0), "called ones that have not run yet are still before us"
    await settle()
    assert entered == [0, 1]
    gate.leave(1, 90)
    await settle()
    assert entered == [0, 1, 2, 3]
    await asyncio.gather(*tasks)
    assert not gate.waiting


@looped
async def test_one_who_gives_up_lets_those_behind_pass() -> None:
    gate = Gate(items_max=10, bytes_max=100)
    assert gate.enter_now(50)
    large = asyncio.ensure_future(gate.enter(100))
    small = asyncio.ensure_future(gate.enter(50))
    await settle()
    assert not small.done()
    large.cancel()
    await settle()
    assert small.done()


@looped
async def test_one_who_gives_up_after_being_called_leaves_no_trace() -> None:
    gate = Gate(items_max=1, bytes_max=100)
    assert gate.enter_now(1)
    called = asyncio.ensure_future(gate.enter(1))
    await settle()
    gate.leave(1, 1)
    called.cancel()
    await settle()
    assert called.cancelled()
    assert gate.enter_now(1)


@looped
async def test_a_newcomer_does_not_overtake_one_that_was_called_and_has_not_run_yet() -> None:
    gate = Gate(items_max=2, bytes_max=100)
    assert gate.enter_now(1)
    assert gate.enter_now(1)
    entered: list[str] = []

    async def visitor(name: str) -> None:
        if not gate.enter_now(1):
            await gate.enter(1)
        entered.append(name)

    first = asyncio.ensure_future(visitor("first"))
    await settle()
    newcomer = asyncio.ensure_future(visitor("newcomer"))
    gate.leave(2, 2)  # room for both, before either runs
    await asyncio.gather(first, newcomer)
    assert entered == ["first", "newcomer"]
