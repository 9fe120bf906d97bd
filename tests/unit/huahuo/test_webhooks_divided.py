"""Webhooks over several nodes: each hook's deliveries run on one of them, wherever the event was written."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from huahuo.actors.entities.rendezvous_hash import Share
from huahuo.webhooks import deliveries, delivery_books
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.worlds.hooks import HookWorld

pytestmark = pytest.mark.virtual_time

BOTH = ("a", "b")


@pytest.fixture
async def pair() -> AsyncIterator[tuple[HookWorld, HookWorld]]:
    """Two nodes with one receiver, that divide nothing yet."""
    order = MemoryOrder()
    one, other = HookWorld(seed=1), HookWorld(seed=2)
    for node, name in ((one, "a"), (other, "b")):
        node.order, node.node = order, name
        await node.open()
    yield one, other
    for node in (one, other):
        await node.close()


@pytest.fixture
def one(pair: tuple[HookWorld, HookWorld]) -> HookWorld:
    return pair[0]


@pytest.fixture
def other(pair: tuple[HookWorld, HookWorld]) -> HookWorld:
    return pair[1]


async def divide(one: HookWorld, other: HookWorld, *nodes: str) -> None:
    await asyncio.gather(one.divide(*nodes), other.divide(*nodes))


def owner(one: HookWorld, other: HookWorld, webhook_id: int) -> HookWorld:
    return one if Share("a", BOTH).has(f"webhook delivery {webhook_id}") else other


async def test_what_a_node_left_is_delivered_by_the_other(one: HookWorld, other: HookWorld) -> None:
    made = await one.add("t")
    await divide(one, other, *BOTH)
    here = owner(one, other, made["webhook_id"])
    there = other if here is one else one
    here.receiver.answer = lambda _url: 503
    await one.write("user/42")
    await one.pass_s(2)
    await here.hooks.divide(Share(here.node, ()))
    await there.divide(there.node)
    await one.pass_s(20)
    assert there.receiver.got == ["user/42#1"]
    tries = len(here.receiver.got)
    await one.pass_s(100)
    assert len(here.receiver.got) == tries


async def test_counting_what_waits_for_longer_than_a_count_is_believed_ends(
    one: HookWorld, other: HookWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "WAITING_MAX", 3)
    await one.add("t")
    one.receiver.hold = other.receiver.hold = lambda _url: asyncio.Event()
    await divide(one, other, "a")
    slow_rows(one, delivery_books.COUNTED_S + 1)
    await one.pass_s(2 * delivery_books.COUNTED_S)
    for _ in range(5):
        await one.write("user/42")
    await one.pass_s(100)
    assert sum(one.hooks.deliveries.books.dead.values()) == 2


def slow_rows(node: HookWorld, seconds: float) -> None:
    """From now on a page of what waits is read so slowly."""
    rows = node.log.rows

    async def slowly(table: str, *args: Any, **bounds: Any) -> Any:
        await asyncio.sleep(seconds if table == delivery_books.DELIVERY_TABLE else 0)
        return await rows(table, *args, **bounds)

    node.log.rows = slowly  # type: ignore[method-assign]
