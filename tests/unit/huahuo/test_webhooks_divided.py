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
HOOKS = 8


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


async def test_hooks_are_delivered_on_both_nodes_and_each_event_once(
    one: HookWorld, other: HookWorld
) -> None:
    for _ in range(HOOKS):
        await one.add("t")
    await divide(one, other, *BOTH)
    for node in (one, other):
        await node.write("user/42")
    await one.pass_s(5)
    assert sorted(one.receiver.got + other.receiver.got) == ["user/42#1"] * HOOKS + ["user/42#2"] * HOOKS
    assert one.receiver.got
    assert other.receiver.got


async def test_a_hook_has_its_bound_of_requests_over_all_nodes(one: HookWorld, other: HookWorld) -> None:
    made = await one.add("t")
    await divide(one, other, *BOTH)
    for node in (one, other):
        node.receiver.hold = lambda _url: asyncio.Event()
    for _ in range(2 * deliveries.PER_HOOK):
        await one.write("user/42")
    await one.pass_s(5)
    runs = {id(node): node.hooks.deliveries.effects.running for node in (one, other)}
    assert runs.pop(id(owner(one, other, made["webhook_id"]))) == deliveries.PER_HOOK
    assert list(runs.values()) == [0]


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


@pytest.fixture
def few_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service reads their number when it is made."""
    monkeypatch.setattr(deliveries, "RETRIES", 3)


@pytest.mark.usefixtures("few_retries")
async def test_each_node_shows_what_waits_and_what_has_failed_for_good(
    one: HookWorld, other: HookWorld
) -> None:
    made = await one.add("t")
    await divide(one, other, *BOTH)
    for node in (one, other):
        node.receiver.answer = lambda _url: 503
    await one.write("user/42")
    await one.pass_s(10)
    for node in (one, other):
        [shown] = (await node.ask("list_webhooks"))["data"]
        assert (shown["waiting"], shown["dead_letters"]) == (1, 0)
    await one.pass_s(60)
    for node in (one, other):
        [shown] = (await node.ask("list_webhooks"))["data"]
        assert (shown["waiting"], shown["dead_letters"]) == (0, 1)
    for node in (one, other):
        node.receiver.answer = lambda _url: 204
    await one.ask("retry_webhook", webhook_id=made["webhook_id"])
    await one.pass_s(10)
    for node in (one, other):
        [shown] = (await node.ask("list_webhooks"))["data"]
        assert (shown["waiting"], shown["dead_letters"]) == (0, 0)


async def test_deliveries_that_ended_on_another_node_do_not_count_as_waiting(
    one: HookWorld, other: HookWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "WAITING_MAX", 3)
    for _ in range(HOOKS):
        await one.add("t")
    await divide(one, other, *BOTH)
    for _ in range(10):
        await one.write("user/42")
        await one.pass_s(3)
    assert len(one.receiver.got) + len(other.receiver.got) == 10 * HOOKS


async def test_what_failed_before_its_hook_moved_is_tried_again_by_the_other_node_alone(
    one: HookWorld, other: HookWorld
) -> None:
    made = [(await one.add("t"))["webhook_id"] for _ in range(HOOKS)]
    moved = {str(number) for number in made if owner(one, other, number) is other}
    assert moved
    one.receiver.answer = other.receiver.answer = lambda _url: 503
    await divide(one, other, "a")
    await one.write("user/42")
    await one.pass_s(2)
    assert len(one.receiver.got) == HOOKS
    await divide(one, other, *BOTH)
    await one.pass_s(600)
    assert hooks_of(other) == moved
    assert not hooks_of(one, HOOKS) & moved


def hooks_of(node: HookWorld, first: int = 0) -> set[str]:
    """The hooks of the requests that a node has sent, from this one on."""
    return {headers["webhook-id"].partition(".")[0] for _, _, headers, _ in node.receiver.requests[first:]}


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
