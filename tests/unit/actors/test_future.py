"""`LoopFuture`: awaiting suspends one task; a blocking read that would stop a loop is refused."""

import asyncio
import threading
from collections.abc import Iterable
from typing import Any

import pykka
import pytest

from huahuo.actors import LoopFuture
from tests.support.patience import WITHIN_S


def future_of[T](value: T) -> LoopFuture[T]:
    future: LoopFuture[T] = LoopFuture()
    future.set(value)
    return future


@pytest.mark.virtual_time
async def test_get_on_a_loop_thread_refuses_at_once() -> None:
    with pytest.raises(RuntimeError, match="would deadlock"):
        LoopFuture().get(timeout=5)


async def test_a_value_set_by_another_thread_wakes_the_awaiting_task() -> None:
    future: LoopFuture[int] = LoopFuture()
    thread = threading.Thread(target=future.set, args=(5,))
    asyncio.get_running_loop().call_soon(thread.start)
    async with asyncio.timeout(WITHIN_S):
        value = await future
    thread.join()
    assert value == 5


@pytest.mark.virtual_time
@pytest.mark.parametrize("when", ["before", "after"])
async def test_map_filter_reduce_and_join_are_awaited_without_any_thread(when: str) -> None:
    before = threading.active_count()
    source: LoopFuture[Iterable[int]] = LoopFuture()
    other: LoopFuture[str] = LoopFuture()
    derived: list[LoopFuture[Any]] = [
        source.map(lambda items: len(list(items))),
        source.filter(lambda item: item > 1),
        source.reduce(int.__add__, 10),
        source.join(other),
        source.map(lambda items: len(list(items))).map(lambda count: count * 100),
    ]
    if when == "before":
        source.set([1, 2, 3])
        other.set("x")
    else:
        asyncio.get_running_loop().call_later(60, source.set, [1, 2, 3])
        asyncio.get_running_loop().call_later(120, other.set, "x")
    assert ([await future for future in derived]) == [3, [2, 3], 16, [[1, 2, 3], "x"], 300]
    assert threading.active_count() == before


@pytest.mark.virtual_time
async def test_joining_a_future_that_can_only_block_is_refused_when_awaited() -> None:
    joined = future_of(1).join(pykka.ThreadingFuture())
    with pytest.raises(TypeError, match="ThreadingFuture would block"):
        await joined


@pytest.mark.virtual_time
async def test_a_foreign_get_hook_is_refused_when_awaited() -> None:
    future: LoopFuture[int] = LoopFuture()
    future.set_get_hook(lambda _timeout: 1)
    with pytest.raises(TypeError, match="would block"):
        await future
    assert future.get() == 1
