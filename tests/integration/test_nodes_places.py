"""Places at a mail server are counted over all nodes: the node with the work lends them to the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from huahuo.cluster import shared_places
from huahuo.cluster.node_requests import LIVES_S, Peers
from huahuo.cluster.shared_places import ALONE_S, Borrowing
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.mailcheck.checks.connections import Places
from tests.support.patience import WITHIN_S
from tests.support.worlds.neighbours import neighbours

KEY = "mail.example"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_places, "TIMEOUT_S", WITHIN_S)


class Node:
    """A node that reads mails at one host, which takes two connections."""

    def __init__(self, world: "Nodes", name: str, peers: Peers) -> None:
        self.name = name
        self.places = Places(2)
        self.reading: list[asyncio.Task[None]] = []
        self.borrowing = Borrowing(peers, world.clock, self._taken, lambda: world.holder)

    @asynccontextmanager
    async def _taken(self, _key: str, _places_max: int, in_use: bool) -> AsyncIterator[None]:
        if in_use:
            self.places.take_at_once()
        else:
            await self.places.take()
        try:
            yield
        finally:
            self.places.give()

    @asynccontextmanager
    async def reads(self, world: "Nodes") -> AsyncIterator[None]:
        async with self.borrowing.borrowed(KEY, 2):
            world.connections += 1
            world.most = max(world.most, world.connections)
            try:
                yield
            finally:
                world.connections -= 1


class Nodes:
    """Three nodes; `a` has the work. `connections` are those that the host sees."""

    def __init__(self) -> None:
        self.clock = FakeAmbient(1)
        self.holder = "a"
        self.connections = self.most = 0
        self.all: list[Node] = []
        self.silent_s: dict[str, float] = {}
        """For how long the others have heard nothing of a node."""
        self.turned = asyncio.Condition()

    async def until(self, task: asyncio.Task[None]) -> None:
        """As many turns as it takes."""
        async with asyncio.timeout(WITHIN_S):
            while not task.done():
                await self.turn()
        await task

    async def turn(self) -> None:
        """A turn of each node, and what follows from it."""
        for node in self.all:
            await node.borrowing.turn()
        for _ in range(5):
            await asyncio.sleep(0)
        async with self.turned:
            self.turned.notify_all()


@asynccontextmanager
async def nodes(silent: str = "") -> AsyncIterator[Nodes]:
    world = Nodes()
    async with neighbours(dict.fromkeys("abc", world.clock), silent, world.silent_s) as found:
        world.all = [Node(world, one.name, one.peers) for one in found]
        try:
            yield world
        finally:
            for node in world.all:
                await node.borrowing.stop()


async def test_never_more_are_connected_than_one_node_would_connect() -> None:
    async with nodes() as world:
        done = 0

        async def read(node: Node) -> None:
            nonlocal done
            async with node.reads(world), world.turned:
                await world.turned.wait()
            done += 1

        readers = [asyncio.create_task(read(node)) for node in world.all for _ in range(4)]
        async with asyncio.timeout(WITHIN_S):
            while done < len(readers):
                await world.turn()
        assert world.most == 2


async def _enter(stack: AsyncExitStack, world: Nodes, *readers: Node) -> None:
    """Each of these nodes begins to read a mail, which it does until the stack is closed."""
    for node in readers:
        entering = asyncio.create_task(stack.enter_async_context(node.reads(world)))
        await world.until(entering)


async def test_the_next_node_with_the_work_counts_what_the_others_have() -> None:
    async with nodes() as world, AsyncExitStack() as stack:
        _, b, c = world.all
        await _enter(stack, world, b, c)
        world.holder = "b"
        late = asyncio.create_task(_read_once(b, world))
        for _ in range(3):
            await world.turn()
        assert (world.connections, late.done(), b.places.busy) == (2, False, 2)
        await stack.aclose()
        await world.until(late)
        assert world.most == 2


async def test_a_node_that_has_the_work_again_waits_until_the_others_have_told() -> None:
    async with nodes() as world, AsyncExitStack() as stack:
        a, b, c = world.all
        await _enter(stack, world, b, c)
        world.clock.advance(ALONE_S + 1)
        world.holder = ""
        await a.borrowing.turn()
        world.holder = "a"
        late = asyncio.create_task(_read_once(a, world))
        for _ in range(3):
            await a.borrowing.turn()
            await asyncio.sleep(0)
        assert (world.connections, late.done()) == (2, False)
        await stack.aclose()
        await world.until(late)
        assert world.most == 2


async def test_a_node_that_comes_back_reads_on_at_the_places_that_it_had() -> None:
    async with nodes() as world, AsyncExitStack() as stack:
        a, b, c = world.all
        await _enter(stack, world, a)
        world.silent_s["a"], world.holder = LIVES_S + 1, "b"
        frozen = world.all.pop(0)
        await world.turn()
        await _enter(stack, world, c)
        world.silent_s.clear()
        world.all.append(frozen)
        for _ in range(3):
            await world.turn()
        late = asyncio.create_task(_read_once(b, world))
        for _ in range(3):
            await world.turn()
        assert (world.connections, late.done(), b.places.busy) == (2, False, 2)
        await stack.aclose()
        await world.until(late)
        assert world.most == 2


async def test_a_node_that_nobody_answers_goes_on_after_a_while() -> None:
    async with nodes(silent="a") as world:
        _, b, _ = world.all
        late = asyncio.create_task(_read_once(b, world))
        await world.turn()
        assert not late.done()
        world.clock.advance(ALONE_S + 1)
        await b.borrowing.turn()
        await late


async def _read_once(node: Node, world: Nodes) -> None:
    async with node.reads(world):
        pass
