"""How an ordered log begins: with its birth, or, once it was trimmed, with a birth that was told again."""

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.errors import EventStoreError, WrongKey
from huahuo.eventstore.memory import ModelDisk
from huahuo.eventstore.replicated import proposal
from huahuo.eventstore.replicated.opening import find_beginning
from huahuo.eventstore.replicated.proposal import Birth, NewerFormat
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.logs import MASTER_KEY
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
