"""One entity that two nodes command at the same moment: each decision is about the state that it follows."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import Any

import pytest

from tests.support.worlds.effects import Works, on_nodes
from tests.support.worlds.halls import halls
from tests.support.worlds.scenario import scenario

SEATS = 12
SEEDS = range(4)
WITHIN_MS = 3
"""So short that many decisions of one node are made before it hears of those of the other."""


def on_two_nodes(test: Callable[[Works, Works], Awaitable[None]]) -> None:
    async def run(one: Works, other: Works) -> None:
        await test(one, other)
        assert await one.engine.bodies("hall/h") == await other.engine.bodies("hall/h")

    on_nodes(run, lambda node: node.open([halls()]), shared=False)


async def scattered(chance: Random, sent: Iterable[Awaitable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The answers to all, which are sent at moments that `chance` tells."""

    async def after(wait_ms: int, one: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        await asyncio.sleep(wait_ms / 1000)
        return await one

    return await asyncio.gather(*(after(chance.randrange(WITHIN_MS), one) for one in sent))


def said(reply: dict[str, Any]) -> str:
    return str(reply.get("code", reply["type"]))


@pytest.mark.parametrize("seed", SEEDS)
@scenario(on_two_nodes)
async def test_what_two_nodes_ask_for_at_once_one_of_them_gets_and_the_other_is_refused(
    one: Works, other: Works, *, seed: int
) -> None:
    booked = [node.send("book_seat", hall_id="h", seat=n) for n in range(SEATS) for node in (one, other)]
    replies = await scattered(Random(seed), booked)
    pairs = zip(replies[::2], replies[1::2], strict=True)
    assert [sorted(map(said, pair)) for pair in pairs] == [["success", "taken"]] * SEATS
    seats = [event["seat"] for event in await one.engine.bodies("hall/h")]
    assert sorted(seats) == list(range(SEATS))


@pytest.mark.parametrize("seed", SEEDS)
@scenario(on_two_nodes)
async def test_every_decision_of_either_node_follows_from_the_history_before_it(
    one: Works, other: Works, *, seed: int
) -> None:
    chance = Random(seed)
    await one.send("book_seat", hall_id="h", seat=0)
    replies = await scattered(
        chance,
        [
            node.send(action, hall_id="h", seat=chance.randrange(3))
            for node in (one, other)
            for action in ("book_seat", "free_seat") * SEATS
        ],
    )
    taken: set[int] = set()
    for event in (history := await one.engine.bodies("hall/h")):
        if event["type"] == "seat_booked":
            assert event["seat"] not in taken
            taken.add(event["seat"])
        else:
            taken.remove(event["seat"])
    answers = Counter(map(said, replies))
    assert answers.keys() <= {"success", "taken", "not_taken"}
    assert answers["success"] == len(history) - 1
    places = [reply["at"]["seq"] for reply in replies if said(reply) == "success"]
    assert sorted(places) == list(range(2, len(history) + 1)), "each answer names its own event"


@pytest.mark.parametrize("seed", SEEDS)
@scenario(on_two_nodes)
async def test_one_command_id_that_both_nodes_get_at_once_is_decided_once_and_answered_alike(
    one: Works, other: Works, *, seed: int
) -> None:
    sent = [
        node.send("book_seat", as_id=f"c{n}", hall_id="h", seat=n)
        for n in range(SEATS)
        for node in (one, other)
    ]
    replies = await scattered(Random(seed), sent)
    assert {said(reply) for reply in replies} == {"success"}
    for first, second in zip(replies[::2], replies[1::2], strict=True):
        assert first["at"] == second["at"]
        assert first.get("duplicate", False) != second.get("duplicate", False)
    assert len(await one.engine.bodies("hall/h")) == SEATS
