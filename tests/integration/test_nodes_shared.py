"""What nodes share by asking each other: the time, places at mail servers, and rates."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from huahuo.cluster import clock, shared_facts, shared_places
from huahuo.cluster.clock import Clock, judged
from huahuo.cluster.coordination import Duty
from huahuo.cluster.members import SILENT_S, Member
from huahuo.cluster.node_requests import LIVES_S, Peers
from huahuo.cluster.shared_facts import BYTES_A_RATE, Rates, most
from huahuo.cluster.shared_places import ALONE_S, Borrowing, Lent, Want, Wants
from huahuo.eventstore.ambient import Ambient, FakeAmbient
from huahuo.mailcheck.checks.connections import Places
from huahuo.transport.access.door import RequestLimit
from huahuo.users.login import FAILURES_MAX, WINDOW_S, Failures
from tests.support.drivers.http import client
from tests.support.patience import WITHIN_S
from tests.support.worlds.neighbours import Neighbour, neighbours

NOON_MS = 1_800_000_000_000


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (clock, shared_facts, shared_places):
        monkeypatch.setattr(module, "TIMEOUT_S", WITHIN_S)


class Node:
    """A node with its clock and its duty."""

    def __init__(self, one: Neighbour) -> None:
        self.one = one
        self.works = False
        self.duty = Duty(
            log=one.world.log, ambient=one.world.ambient, node=one.name, work=self._work, rest=self._rest,
            tell=lambda beat: Member(url=one.name, build="1", keys="k", beat=beat, at_ms=0, applied=0),
        )  # fmt: skip
        self.clock = Clock(one.peers, self.duty, one.ambient, self._tell)

    def _tell(self, trouble: str | None) -> None:
        self.one.world.site.unfit = trouble  # as the wiring does

    async def _work(self) -> None:
        self.works = True

    async def _rest(self) -> None:
        self.works = False

    async def ready(self) -> tuple[int, str]:
        async with client(f"http://127.0.0.1:{self.one.world.port}") as c:
            answer = await c.get("/readyz")
            return answer.status_code, answer.text


@asynccontextmanager
async def nodes(*ahead_s: float) -> AsyncIterator[tuple[list[Node], list[FakeAmbient]]]:
    """Nodes whose clocks are as far ahead. Each has the work of its own log."""
    clocks = [FakeAmbient(number, now_ms=NOON_MS + round(s * 1000)) for number, s in enumerate(ahead_s)]
    named: dict[str, Ambient] = {f"n{number}": clock for number, clock in enumerate(clocks)}
    async with AsyncExitStack() as stack:
        made = [Node(one) for one in await stack.enter_async_context(neighbours(named))]
        for node in made:
            await node.duty.start()
            stack.push_async_callback(node.duty.stop)
        yield made, clocks


@pytest.mark.parametrize(("off_s", "why"), [(-600, "600 s behind"), (600, "600 s ahead of")])
async def test_one_of_three_with_another_time_is_not_ready_and_leaves_the_work(
    off_s: float, why: str
) -> None:
    async with nodes(0, 0, off_s) as ([first, second, wrong], clocks):
        assert [node.works for node in (first, second, wrong)] == [True, True, True]
        for node in (first, second, wrong):
            assert await node.clock.look()
        assert [node.works for node in (first, second, wrong)] == [True, True, False]
        assert first.clock.trouble is None
        status, text = await wrong.ready()
        assert (status, why in text) == (503, True), text
        assert (await first.ready())[0] == 200
        clocks[2].jump(round(-1000 * off_s))
        await wrong.clock.look()
        assert wrong.clock.trouble is None
        assert (await wrong.ready())[0] == 200


async def test_a_clock_that_is_known_to_be_wrong_stays_so_until_another_agrees() -> None:
    async with nodes(0, 0, 600) as ([_, _, wrong], clocks):
        await wrong.clock.look()
        assert wrong.clock.trouble is not None
        clocks[0].jump(1_200_000)  # one other is now as far before it as the second behind it
        await wrong.clock.look()
        assert wrong.clock.trouble is not None
        assert (await wrong.ready())[0] == 503


async def test_a_node_whose_clock_is_an_hour_off_is_told_by_being_refused() -> None:
    async with nodes(0, 0, 3600) as ([_, _, wrong], _):
        assert await wrong.clock.look()
        assert wrong.clock.trouble == "the clock of this node is 3600 s ahead of those of the others"


@pytest.mark.parametrize("off_s", [-3600, 600, 3600])
async def test_a_node_whose_clock_is_wrong_knows_the_time_of_the_others_until_it_is_right(off_s: int) -> None:
    async with nodes(0, 0, off_s) as ([first, _, wrong], clocks):
        assert wrong.clock.others_ms() is None
        await first.clock.look()
        await wrong.clock.look()
        clocks[2].advance(5)
        assert (first.clock.others_ms(), wrong.clock.others_ms()) == (None, NOON_MS + 5_000)
        clocks[2].jump(round(-1000 * off_s))
        assert wrong.clock.others_ms() == NOON_MS + 5_000, "a clock that is set changes nothing of it"
        await wrong.clock.look()
        assert wrong.clock.others_ms() is None


@pytest.mark.parametrize(
    ("ahead_s", "earliest_s"),
    [((0, 1200), 0), ((0, 3600), 0), ((1200, 0), 1200), ((0, 0, 1200), 0), ((0, 3600, 1200), 0)],
)
async def test_the_last_node_knows_what_time_the_one_furthest_behind_has(
    ahead_s: tuple[int, ...], earliest_s: int
) -> None:
    async with nodes(*ahead_s) as (made, clocks):
        last = made[-1].clock
        await last.look()
        clocks[-1].advance(5)
        assert last.earliest_ms() == NOON_MS + 1000 * earliest_s + 5_000
        made[-1].one.members.clear()
        await last.look()
        assert last.earliest_ms() == NOON_MS + 1000 * earliest_s + 5_000, "kept while nobody answers"


async def test_a_node_with_which_another_agrees_goes_by_no_earlier_time() -> None:
    async with nodes(0, 1200, 1200) as ([_, _, last], _):
        await last.clock.look()
        assert last.clock.earliest_ms() is None


@pytest.mark.parametrize(
    ("ahead_ms", "too_far", "is_wrong"),
    [
        ([], 0, False),
        ([600_000], 0, False),  # of two, nobody knows which is wrong
        ([600_000, 0], 0, False),
        ([600_000, -600_000], 0, False),
        ([600_000, 600_000], 0, True),
        ([59_000, 600_000], 0, False),
        ([0, 0, 600_000, 600_000], 0, False),
        ([0, 600_000, 600_000, 600_000], 0, True),
        ([0], 1, False),
        ([], 2, True),
    ],
)
def test_a_clock_is_wrong_if_most_others_differ_alike(
    ahead_ms: list[int], too_far: int, is_wrong: bool
) -> None:
    assert (judged(ahead_ms, too_far) is not None) == is_wrong


KEY = "mail.example"


class Reading:
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
        self.all: list[Reading] = []
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
async def reading_nodes(silent: str = "") -> AsyncIterator[Nodes]:
    world = Nodes()
    async with neighbours(dict.fromkeys("abc", world.clock), silent, world.silent_s) as found:
        world.all = [Reading(world, one.name, one.peers) for one in found]
        try:
            yield world
        finally:
            for node in world.all:
                await node.borrowing.stop()


async def test_never_more_are_connected_than_one_node_would_connect() -> None:
    async with reading_nodes() as world:
        done = 0

        async def read(node: Reading) -> None:
            nonlocal done
            async with node.reads(world), world.turned:
                await world.turned.wait()
            done += 1

        readers = [asyncio.create_task(read(node)) for node in world.all for _ in range(4)]
        async with asyncio.timeout(WITHIN_S):
            while done < len(readers):
                await world.turn()
        assert world.most == 2


async def _enter(stack: AsyncExitStack, world: Nodes, *readers: Reading) -> None:
    """Each of these nodes begins to read a mail, which it does until the stack is closed."""
    for node in readers:
        entering = asyncio.create_task(stack.enter_async_context(node.reads(world)))
        await world.until(entering)


async def test_the_next_node_with_the_work_counts_what_the_others_have() -> None:
    async with reading_nodes() as world, AsyncExitStack() as stack:
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
    async with reading_nodes() as world, AsyncExitStack() as stack:
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


async def test_places_of_a_node_that_died_with_the_work_are_lent_by_the_next_one() -> None:
    async with reading_nodes() as world, AsyncExitStack() as died, AsyncExitStack() as stack:
        a, b, c = world.all
        await _enter(died, world, a)
        await _enter(stack, world, c)
        world.all.remove(a)
        world.silent_s["a"], world.holder = SILENT_S + 1, "b"
        await died.aclose()  # the host sees its connection end
        await _enter(stack, world, b)
        late = asyncio.create_task(_read_once(b, world))
        for _ in range(3):
            await world.turn()
        assert (world.connections, late.done()) == (2, False), "what the living ones read counts"
        await stack.aclose()
        await world.until(late)


async def test_a_node_that_comes_back_reads_on_at_the_places_that_it_had() -> None:
    async with reading_nodes() as world, AsyncExitStack() as stack:
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
    async with reading_nodes(silent="a") as world:
        _, b, _ = world.all
        late = asyncio.create_task(_read_once(b, world))
        await world.turn()
        assert not late.done()
        world.clock.advance(ALONE_S + 1)
        await b.borrowing.turn()
        await late


async def _read_once(node: Reading, world: Nodes) -> None:
    async with node.reads(world):
        pass


@asynccontextmanager
async def _always(_key: str, _places_max: int, _in_use: bool) -> AsyncIterator[None]:
    yield


async def test_a_silent_node_has_nothing_and_late_news_do_not_count() -> None:
    granted: list[tuple[str, str]] = []
    lent = Lent(_always, lambda node, id_: granted.append((node, id_)))
    want = Want("b.1", KEY, 2, False)
    lent.hear("b", Wants("life", 2, [want]))
    lent.look({"b"}, {"b"})
    for _ in range(3):
        await asyncio.sleep(0)
    assert granted == [("b", "b.1")]
    lent.hear("b", Wants("life", 1, []))
    assert lent.granted_to("b") == ["b.1"]
    lent.look(set(), set())
    assert lent.granted_to("b") == []
    lent.close()


PER_S = 5


BURST = 4 * PER_S


class Limited:
    """The limits of one node."""

    def __init__(self, ambient: FakeAmbient, peers: Peers) -> None:
        self._ambient = ambient
        self.calls = RequestLimit(PER_S)
        self.failures = Failures()
        self.rates = Rates(peers, ambient, {"calls": self.calls, "sign-ins": self.failures})
        self.rates.start()

    def take(self, count: int) -> int:
        """Ask as often; returns how often it was allowed."""
        now_s = self._ambient.monotonic_s()
        return sum(self.calls.take("user/42", now_s) == 0 for _ in range(count))

    async def tell(self) -> None:
        await asyncio.gather(*self.rates.turn())


@asynccontextmanager
async def limited(names: str, silent: str = "") -> AsyncIterator[tuple[list[Limited], FakeAmbient]]:
    """Nodes whose clocks are one. The one named by `silent` lives, and can't be reached."""
    clock = FakeAmbient(1)
    async with neighbours(dict.fromkeys(names, clock), silent) as found:
        made = [Limited(clock, one.peers) for one in found]
        try:
            yield made, clock
        finally:
            for node in made:
                await node.rates.stop()


async def test_a_user_who_asks_three_nodes_gets_what_one_node_would_give() -> None:
    async with limited("abc") as ([a, b, c], clock):
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
    async with limited("abc") as (three, clock):
        assert [node.take(BURST) for node in three] == [BURST] * 3
        for node in three:
            await node.tell()
        clock.advance(2 * BURST / PER_S)
        assert [node.take(1) for node in three] == [0, 0, 0]
        clock.advance(1.0)
        assert [node.take(1) for node in three] == [1, 1, 1]


async def test_ten_wrong_passwords_on_two_nodes_close_a_name_on_a_third_for_a_minute() -> None:
    async with limited("abc") as ([a, b, c], clock):
        now_s = clock.monotonic_s()
        for node in (a, b):
            for _ in range(FAILURES_MAX // 2):
                node.failures.failed("alice", now_s)
            await node.tell()
        assert c.failures.wait_s("alice", now_s) == WINDOW_S
        assert c.failures.wait_s("bob", now_s) == 0


async def test_a_node_that_cannot_be_reached_stops_nobody() -> None:
    async with limited("abc", silent="b") as ([a, b, c], _):
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
