"""Several nodes over one ordered log: one history everywhere, whatever each node does at once."""

import asyncio
import errno

import pytest

from huahuo.eventstore.errors import (
    Closed,
    EventStoreError,
    KeyConflict,
    TooLarge,
    WrongKey,
)
from huahuo.eventstore.model import Append, Appended, Secret, SecretPut
from tests.support.models.memory_sequencer import MemorySequencer
from tests.support.worlds.logs import append, event
from tests.support.worlds.replicas import Cluster, Node, cluster

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def same_everywhere(made: Cluster) -> None:
    """Every node tells one history, chain and digest included, and it verifies."""
    await made.caught_up()
    first, *rest = made.nodes
    history = await first.history()
    assert await first.log.verify() == len(history)
    for node in rest:
        assert await node.history() == history
        assert (node.writer.place, node.writer.shared) == (first.writer.place, first.writer.shared)


async def test_of_two_nodes_that_make_a_key_for_one_owner_at_once_one_is_refused() -> None:
    async with cluster("ab") as made:
        puts = [
            node.log.append(Append(ts_ms=1, secrets=(SecretPut("o", node.name, Secret(node.name)),)))
            for node in made.nodes
        ]
        outcomes = await asyncio.gather(*puts, return_exceptions=True)
        assert sum(isinstance(one, KeyConflict) for one in outcomes) == 1
        await same_everywhere(made)
        [kept] = [
            node.name for node, one in zip(made.nodes, outcomes, strict=True) if isinstance(one, Appended)
        ]
        for node in made.nodes:
            assert await node.log.secret("o", kept) == Secret(kept)


async def test_a_secret_sealed_under_a_key_that_is_shredded_meanwhile_is_refused() -> None:
    async with cluster("ab") as made:
        one, other = made.nodes
        await one.log.append(Append(ts_ms=1, secrets=(SecretPut("o", "p", Secret("1")),)))
        await made.caught_up()
        shredded = one.log.submit(Append(ts_ms=1, shred=("o",)))
        sealed = other.log.submit(Append(ts_ms=1, secrets=(SecretPut("o", "q", Secret("2")),)))
        await asyncio.wait([shredded, sealed])
        assert isinstance(sealed.exception(), KeyConflict)
        assert await other.log.secret("o", "q") is None


async def begun(node: Node) -> None:
    """Wait until it may propose: between its last look at the order and its first proposal."""
    while node.writer.proposer is None:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_what_an_earlier_life_had_under_way_does_not_stop_the_next_one() -> None:
    async with cluster("a") as made:
        [node] = made.nodes
        await node.log.append(append(event("s", b"one")))
        proposer = node.writer.proposer
        assert proposer is not None
        [(_, late, _)] = proposer.make((), node.writer.agreement.last, 0).proposals
        await node.crash()
        await node.start(joined=False)
        await begun(node)
        made.order.put(late)
        await node.log.append(append(event("s", b"two")))
        assert node.writer.trouble is None
        assert [e.body for e in await node.history()] == [b"one", b"two"]


async def test_two_processes_with_one_name_do_not_both_go_on() -> None:
    made = Cluster("aab")
    await asyncio.gather(*(node.start(joined=False) for node in made.nodes))
    await asyncio.sleep(5)
    running = [node for node in made.nodes[:2] if node.writer.trouble is None]
    [stopped] = [node for node in made.nodes[:2] if node.writer.trouble is not None]
    assert len(running) == 1
    said = stopped.writer.trouble or ""
    assert "another process runs as the node a: stop one of them, and start the other again" in said
    await running[0].log.append(append(event("s")))
    await made.close()


async def test_a_replica_that_differs_from_two_others_stops_and_they_go_on() -> None:
    async with cluster() as made:
        wrong, *right = made.nodes
        for node in made.nodes:
            await node.log.append(append(event("s")))
        await made.caught_up()
        told: list[str] = []
        wrong.writer.differed = told.append
        wrong.writer.place.chain = bytes(32)  # as if its disk had told it something else
        for _ in range(3):
            for node in made.nodes:
                if node.writer.trouble is None:
                    await node.log.append(append(event("s")))
            await asyncio.sleep(1)
        assert "differs from that of b, c" in (await wrong.log.probe() or "")
        assert len(told) == 1, "it is noted, so that a restart does not begin as if nothing had been"
        with pytest.raises(Closed):
            await wrong.log.append(append(event("s")))
        assert [await node.log.probe() for node in right] == [None, None]


async def test_a_commit_that_fails_is_applied_again_and_nothing_is_lost() -> None:
    async with cluster("ab") as made:
        one, other = made.nodes
        one.disk.fail_writes += [errno.ENOSPC, errno.ENOSPC]
        waiting = one.log.submit(append(event("s", b"mine")))
        await other.log.append(append(event("s", b"other")))
        await asyncio.sleep(0.5)
        assert not waiting.done(), "its outcome is not known before it is applied"
        assert "No space left on device" in (await one.log.probe() or "")
        await waiting
        one.ambient.advance(2)
        assert await one.log.probe() is None
        await same_everywhere(made)


async def test_an_append_is_refused_by_its_size_alone_and_what_is_behind_it_goes_through() -> None:
    async with cluster("ab", proposal_bytes_max=20_000) as made:
        log = made.nodes[0].log
        small = [log.submit(append(event("s", b"x" * 1000))) for _ in range(50)]
        large = log.submit(append(event("s", b"x" * 30_000)))
        after = log.submit(append(event("s", b"after")))
        await asyncio.wait([*small, large, after])
        assert isinstance(large.exception(), TooLarge)
        assert all(isinstance(one.result(), Appended) for one in (*small, after))
        await same_everywhere(made)
        sizes = [len(made.order.get(offset) or b"") for offset in range(1, made.order.last + 1)]
        assert max(sizes) <= 20_000
        assert made.nodes[1].log.head("s").seq == 51


async def test_a_node_with_another_master_key_does_not_start() -> None:
    async with cluster("ab") as made:
        stranger = Node("c", made.order, lambda order, _: MemorySequencer(order), 1)
        with pytest.raises(WrongKey, match="another master key"):
            await stranger.start(master_key=b"x" * 32)


async def test_the_replica_of_another_ordered_log_does_not_start() -> None:
    async with cluster("a") as made, cluster("a", seed=2) as foreign:
        node = made.nodes[0]
        await node.log.append(append(event("s")))
        await node.log.close()
        node.order = foreign.order
        with pytest.raises(EventStoreError, match="the ordered log is that of"):
            await node.start()
        node.order = made.order
        await node.start()


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, "a/b"])
async def test_a_node_needs_a_plain_name(name: str) -> None:
    with pytest.raises(EventStoreError, match="not the name of a node"):
        await Cluster([name]).nodes[0].start()
