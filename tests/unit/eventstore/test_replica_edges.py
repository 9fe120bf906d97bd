"""A node over an ordered log when its store, its log or its end come in the way: nothing is told wrongly."""

import asyncio
from typing import Any

import pytest

from huahuo.eventstore.errors import (
    Closed,
    InUse,
    KeyConflict,
    NumbersSpent,
    TooLarge,
    Unavailable,
)
from huahuo.eventstore.model import Append, Appended, Keyframe
from huahuo.eventstore.replicated.writer import RETRY_S
from huahuo.eventstore.sequencer.port import Misconfigured, ProposalTooLarge
from tests.support.models.failing_store import Way, blind, failing, one_node
from tests.support.worlds.logs import append, event
from tests.support.worlds.replicas import Node

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]
FRAME = Keyframe("s", "fold", "print", 1, b"state")


def way_of(node: Node) -> Way:
    way = node.sequencer
    assert isinstance(way, Way)
    return way


async def test_a_replica_whose_directory_was_taken_over_stops_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with one_node() as made:
        [node] = made.nodes
        await node.log.append(append(event("s")))
        failing(node.log.store, monkeypatch, InUse("another process writes here"))
        with pytest.raises(Unavailable, match="another process"):
            await node.log.put_keyframe(FRAME)
        with pytest.raises(Closed, match="another process"):
            await node.log.append(append(event("s")))
        assert "another process" in (await node.log.probe() or "")


async def test_an_order_that_refuses_a_proposal_for_good_stops_the_node_with_its_reason() -> None:
    async with one_node() as made:
        [node] = made.nodes
        way_of(node).refuses.append(Misconfigured("it may lose what it acknowledged"))
        with pytest.raises(Unavailable):
            await node.log.append(append(event("s")))
        assert "it may lose what it acknowledged" in (node.writer.trouble or "")


async def test_what_is_durable_though_nobody_could_look_is_found_before_it_would_be_applied_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with one_node() as made:
        [node] = made.nodes
        blind(node.log.store, monkeypatch)
        failing(node.log.store, monkeypatch, OSError("lost"), behind=True)
        written = await node.log.append(append(event("s", b"one")))
        assert isinstance(written, Appended)
        loop = asyncio.get_running_loop()
        found_s = loop.time()
        await node.log.append(append(event("s", b"two")))
        assert loop.time() - found_s < RETRY_S, "finding it was no failure after which a node rests"
        assert [one.body for one in await node.history()] == [b"one", b"two"]
        assert await node.log.verify() == 2


async def test_a_commit_of_this_replica_alone_looks_first_what_is_durable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with one_node() as made:
        [node] = made.nodes
        await node.log.append(append(event("s")))
        blind(node.log.store, monkeypatch)
        failing(node.log.store, monkeypatch, OSError("no room"))
        with pytest.raises(Unavailable):
            await node.log.put_keyframe(FRAME)
        await node.log.put_keyframe(FRAME)
        assert await node.log.keyframe("s", "fold", "print") == FRAME


async def test_numbers_whose_proposal_is_too_large_are_reserved_by_the_next_one() -> None:
    async with one_node() as made:
        [node] = made.nodes
        await node.log.reserve("other", 1)
        way_of(node).refuses.append(ProposalTooLarge("at most 9 bytes"))
        with pytest.raises(NumbersSpent):
            node.log.take("c", 1)
        waiting = node.log.submit(append(event("s")))
        await asyncio.wait([waiting])
        assert isinstance(waiting.exception(), TooLarge)
        await node.log.reserve("c", 1)
        assert node.log.take("c", 1) == 1


async def test_an_append_that_cannot_be_sealed_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise KeyConflict("its key is gone")

    async with one_node() as made:
        [node] = made.nodes
        monkeypatch.setattr("huahuo.eventstore.replicated.outbox.carry", refuse)
        sealed = node.log.submit(Append(ts_ms=1, events=(event("s"),), blobs=(b"mail",)))
        plain = node.log.submit(append(event("s", b"plain")))
        await asyncio.wait([sealed, plain])
        assert isinstance(sealed.exception(), KeyConflict)
        assert isinstance(plain.result(), Appended)


async def test_a_node_tells_what_it_had_after_a_proposal_and_nothing_of_one_to_come() -> None:
    async with one_node() as made:
        [node] = made.nodes
        await node.log.append(append(event("s")))
        last = made.order.last
        told = node.writer.told(last)
        assert told is not None
        assert (told.offset, told.chain) == (last, node.writer.place.chain)
        assert node.writer.told(last + 1) is None
