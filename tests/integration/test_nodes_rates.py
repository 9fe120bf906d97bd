"""A rate holds over all nodes: what a user takes on one is missing on the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from huahuo.cluster.node_requests import Peers
from huahuo.cluster.shared_facts import BYTES_A_RATE, Telling, most
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.transport.access.door import RequestLimit
from huahuo.users.login import FAILURES_MAX, WINDOW_S, Failures
from tests.support.worlds.neighbours import neighbours

PER_S = 5
BURST = 4 * PER_S


class Node:
    """The limits of one node."""

    def __init__(self, ambient: FakeAmbient, peers: Peers) -> None:
        self._ambient = ambient
        self.calls = RequestLimit(PER_S)
        self.failures = Failures()
        self._peers = peers
        self.telling = Telling(peers, ambient, lambda _user, _client: None)
        self.telling.share({"calls": self.calls, "sign-ins": self.failures})

    def take(self, count: int) -> int:
        """Ask as often; returns how often it was allowed."""
        now_s = self._ambient.monotonic_s()
        return sum(self.calls.take("user/42", now_s) == 0 for _ in range(count))

    async def tell(self) -> None:
        self.telling.gather()
        await asyncio.gather(*map(self.telling.tell, self._peers.living()))


@asynccontextmanager
async def nodes(names: str, silent: str = "") -> AsyncIterator[tuple[list[Node], FakeAmbient]]:
    """Nodes whose clocks are one. The one named by `silent` lives, and can't be reached."""
    clock = FakeAmbient(1)
    async with neighbours(dict.fromkeys(names, clock), silent) as found:
        made = [Node(clock, one.peers) for one in found]
        try:
            yield made, clock
        finally:
            for node in made:
                await node.telling.stop()


async def test_a_user_who_asks_three_nodes_gets_what_one_node_would_give() -> None:
    async with nodes("abc") as ([a, b, c], clock):
        given = a.take(BURST)
        await a.tell()
        assert (given, b.take(1), c.take(1)) == (BURST, 0, 0)
        given = 0
        for _ in range(40):  # ten seconds in which the user asks all of them, again and again
            clock.advance(0.25)
            for node in (a, b, c):
                given += node.take(3)
                await node.tell()
        assert given <= 10 * PER_S + BURST


async def test_what_came_to_all_nodes_at_once_is_missing_afterwards() -> None:
    async with nodes("abc") as (three, clock):
        assert [node.take(BURST) for node in three] == [BURST] * 3
        for node in three:
            await node.tell()
        clock.advance(2 * BURST / PER_S)
        assert [node.take(1) for node in three] == [0, 0, 0]
        clock.advance(1.0)
        assert [node.take(1) for node in three] == [1, 1, 1]


async def test_ten_wrong_passwords_on_two_nodes_close_a_name_on_a_third_for_a_minute() -> None:
    async with nodes("abc") as ([a, b, c], clock):
        now_s = clock.monotonic_s()
        for node in (a, b):
            for _ in range(FAILURES_MAX // 2):
                node.failures.failed("alice", now_s)
            await node.tell()
        assert c.failures.wait_s("alice", now_s) == WINDOW_S
        assert c.failures.wait_s("bob", now_s) == 0


async def test_a_node_that_cannot_be_reached_stops_nobody() -> None:
    async with nodes("abc", silent="b") as ([a, b, c], _):
        a.take(BURST)
        await a.tell()
        assert (b.take(1), c.take(1)) == (1, 0)


async def test_a_node_without_others_counts_for_nobody() -> None:
    limit = RequestLimit(PER_S)
    limit.take("user/42", 0.0)
    assert limit.spent is None


def test_a_message_has_a_bound_and_names_those_who_took_most() -> None:
    took = {f"user/{number:060}": number for number in range(5000)}
    told = most(took)
    assert sum(len(key) for key in told) <= BYTES_A_RATE
    assert min(told.values()) == 5000 - len(told)
    assert most({"alice": 1}) == {"alice": 1}
