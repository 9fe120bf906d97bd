"""The contract of an ordered log. Every implementation keeps it.

A new one adds its name to `SEQUENCERS` and a branch to `order`, which yields a function that opens one more
node's way to one and the same empty ordered log.
"""

import asyncio
import functools
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import pytest

from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.sequencer import nats, postgres
from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.opening import sequencer_at
from huahuo.eventstore.sequencer.port import (
    InDoubt,
    ProposalTooLarge,
    Sequencer,
    Trimmed,
    Unreachable,
)
from tests.support.models.hostile_sequencer import HostileSequencer
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.servers.nats import nats_servers
from tests.support.servers.postgres import postgres as postgres_server
from tests.support.worlds.sequencers import answered, put, read

SEQUENCERS = ("memory", "hostile", "postgres", "nats")
BYTES_MAX = 1 << 20
LARGEST = {"postgres": postgres.PROPOSAL_BYTES_MAX, "nats": nats.PROPOSAL_BYTES_MAX}
"""What these take as one proposal, which is more than the size below which nodes cut theirs."""

type Open = Callable[[], Sequencer]


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], str]]:
    """The URL of the server of that kind, which starts when it is first asked for."""
    with ExitStack() as stack:

        @functools.cache
        def url_of(kind: str) -> str:
            if kind == "postgres":
                return stack.enter_context(postgres_server()).url
            return stack.enter_context(nats_servers()).url

        yield url_of


@pytest.fixture(params=SEQUENCERS)
async def open_one(request: pytest.FixtureRequest, servers: Callable[[str], str]) -> AsyncIterator[Open]:
    order = MemoryOrder(BYTES_MAX)
    made: list[Sequencer] = []
    if request.param in LARGEST:
        servers(request.param)
    name = f"t{zlib.crc32(request.node.nodeid.encode())}"

    def open_one() -> Sequencer:
        if request.param in LARGEST:
            address = LogAddress(f"{servers(request.param)}?name={name}")
            made.append(sequencer_at(address, SystemAmbient()))
            return made[-1]
        inner = MemorySequencer(order)
        made.append(inner if request.param == "memory" else HostileSequencer(inner, seed=len(made)))
        return made[-1]

    yield open_one
    for one in made:
        await one.close()


async def test_an_empty_order_ends_at_zero(open_one: Open) -> None:
    assert await answered(open_one().last) == 0


async def test_a_proposal_stands_at_the_offset_that_was_told(open_one: Open) -> None:
    one = open_one()
    offsets = {proposal: await put(one, proposal) for proposal in (b"a", b"", b"\xff\x00" * 1000)}
    last = await answered(one.last)
    assert last >= max(offsets.values())
    kept = {ordered.offset: ordered.proposal for ordered in await read(one, 0, last)}
    assert {proposal: kept[offset] for proposal, offset in offsets.items()} == {key: key for key in offsets}


async def test_offsets_begin_at_one_and_have_no_gap(open_one: Open) -> None:
    one = open_one()
    for number in range(20):
        await put(one, b"%d" % number)
    last = await answered(one.last)
    assert [ordered.offset for ordered in await read(one, 0, last)] == list(range(1, last + 1))


async def test_all_nodes_read_one_order(open_one: Open) -> None:
    nodes = [open_one() for _ in range(3)]
    await asyncio.gather(*(put(node, b"%d.%d" % (at, n)) for at, node in enumerate(nodes) for n in range(10)))
    last = await answered(nodes[0].last)
    assert last >= 30
    first, *rest = [await read(node, 0, last) for node in nodes]
    assert all(other == first for other in rest)
    assert {ordered.proposal for ordered in first} == {
        b"%d.%d" % (at, n) for at in range(3) for n in range(10)
    }


async def test_what_one_node_proposes_in_turn_keeps_its_turn(open_one: Open) -> None:
    one = open_one()
    offsets = [await put(one, b"%d" % number) for number in range(10)]
    assert offsets == sorted(offsets)


async def test_following_goes_on_with_what_is_proposed_later(open_one: Open) -> None:
    one, other = open_one(), open_one()
    offset = await put(one, b"before")
    coming = asyncio.ensure_future(read(other, offset, 1))
    await asyncio.sleep(0)
    later = await put(one, b"later")
    while later < offset + 1:
        later = await put(one, b"later")
    [found] = await coming
    assert found.offset == offset + 1


async def test_a_follower_begins_behind_any_offset(open_one: Open) -> None:
    one = open_one()
    for number in range(9):
        await put(one, b"%d" % number)
    last = await answered(one.last)
    whole = await read(one, 0, last)
    for after in range(last):
        assert await read(one, after, 1) == [whole[after]]


async def test_what_was_proposed_twice_under_one_id_may_stand_twice_and_is_the_same(open_one: Open) -> None:
    one = open_one()
    first, second = await put(one, b"same"), await put(one, b"same")
    last = await answered(one.last)
    kept = {ordered.offset: ordered.proposal for ordered in await read(one, 0, last)}
    assert kept[first] == kept[second] == b"same"


async def test_a_proposal_over_the_bound_is_refused_and_has_no_offset(
    request: pytest.FixtureRequest, open_one: Open
) -> None:
    one = open_one()
    before = await answered(one.last)
    largest = LARGEST.get(request.node.callspec.params["open_one"], BYTES_MAX)
    assert one.proposal_bytes_max <= largest
    with pytest.raises(ProposalTooLarge, match=str(largest)):
        await put(one, bytes(largest + 1))
    assert await answered(one.last) == before


async def test_what_is_trimmed_cannot_be_followed_and_the_rest_stays(open_one: Open) -> None:
    one = open_one()
    for number in range(9):
        await put(one, b"%d" % number)
    last = await answered(one.last)
    kept = await read(one, 4, last - 4)
    await answered(lambda: one.trim(5))
    await answered(lambda: one.trim(3))  # gone already: no error
    assert await read(one, 4, last - 4) == kept
    with pytest.raises(Trimmed):
        await read(one, 2, 1)
    assert await answered(one.last) == last
    assert await put(one, b"more") > last


async def test_a_closed_one_takes_nothing(open_one: Open) -> None:
    one = open_one()
    await one.close()
    with pytest.raises((Unreachable, InDoubt)):
        await one.propose(b"late")
