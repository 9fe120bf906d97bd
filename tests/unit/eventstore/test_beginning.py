"""How an ordered log begins: with its birth, or, once it was trimmed, with a birth that was told again."""

import functools

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.errors import EventStoreError, WrongKey
from huahuo.eventstore.memory import ModelDisk
from huahuo.eventstore.replicated import proposal
from huahuo.eventstore.replicated.opening import Held, find_beginning, open_replica
from huahuo.eventstore.replicated.proposal import Birth, NewerFormat
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.logs import MASTER_KEY, append, event
from tests.support.worlds.replicas import cluster

pytestmark = pytest.mark.virtual_time
KEY = derive(MASTER_KEY, "proposals")


@pytest.mark.parametrize(
    ("born", "error"),
    [
        (proposal.dump_birth(Birth(1, "x"), b"o" * 32), WrongKey),
        (proposal.dump_birth(Birth(proposal.BIRTH_FORMAT + 1, "x"), KEY), NewerFormat),
    ],
)
async def test_a_log_of_another_key_or_a_newer_version_is_refused(
    born: bytes, error: type[Exception]
) -> None:
    order = MemoryOrder()
    order.put(born)
    with pytest.raises(error):
        await find_beginning(MemorySequencer(order), MASTER_KEY, FakeAmbient(1))


async def test_a_log_that_was_purged_is_refused_at_once_until_a_node_writes_its_genesis_record_again() -> (
    None
):
    async with cluster("a") as made:
        [node] = made.nodes
        await node.log.append(append(event("s")))
        made.order.trim(made.order.last + 1)
        purged = f"begins at offset {made.order.last + 1} .* purged, .*`huahuo cluster trim`"
        with pytest.raises(EventStoreError, match=purged):
            await find_beginning(MemorySequencer(made.order), MASTER_KEY, FakeAmbient(1))
        await node.log.append(append(event("s")))
        await node.writer.tell_birth_again()
        found = await find_beginning(MemorySequencer(made.order), MASTER_KEY, FakeAmbient(1))
        assert (found.birth.log_id, found.is_whole) == (node.log.log_id, False)


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        ((), "it is another log, or it went back"),
        ((proposal.dump_birth(Birth(1, "another"), KEY), b"x", b"x", b"x"), "ordered log is that of another"),
        ((proposal.dump_birth(Birth(1, "another"), b"o" * 32), b"x", b"x", b"x"), "another master key"),
    ],
)
async def test_a_replica_whose_ordered_log_is_another_one_is_told_at_once(
    kept: tuple[bytes, ...], why: str
) -> None:
    async with cluster("a") as made:
        [node] = made.nodes
        await node.log.append(append(event("s")))
        await node.log.close()
        node.order = MemoryOrder()
        for data in kept:
            node.order.put(data)
        engine = functools.partial(node.engine, master_key=MASTER_KEY, build="test-1")
        held = Held(node.log.log_id, node.writer.shared.offset)
        with pytest.raises(EventStoreError, match=why):
            await open_replica(
                engine, ambient=node.ambient, master_key=MASTER_KEY, sequencer=MemorySequencer(node.order),
                node="a", held=held,
            )  # fmt: skip
        made.nodes.pop()


async def test_an_empty_node_does_not_begin_in_the_middle_of_a_history() -> None:
    async with cluster("ab") as made:
        again = await made.nodes[0].writer.tell_birth_again()
        await made.caught_up()
        await made.nodes[0].writer.trim(again)
        made.nodes[1].disk = ModelDisk()  # its own is lost
        await made.nodes[1].log.close()
        with pytest.raises(EventStoreError, match="needs a copy of another one"):
            await made.nodes[1].start()
        made.nodes.pop()
