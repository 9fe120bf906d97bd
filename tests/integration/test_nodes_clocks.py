"""A node whose clock is wrong says so, takes no work and is not ready, until it is set right."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from huahuo.cluster import clock
from huahuo.cluster.clock import Clock, judged
from huahuo.cluster.coordination import Duty
from huahuo.cluster.members import Member
from huahuo.eventstore.ambient import Ambient, FakeAmbient
from tests.support.drivers.http import client
from tests.support.patience import WITHIN_S
from tests.support.worlds.neighbours import Neighbour, neighbours

NOON_MS = 1_800_000_000_000


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "TIMEOUT_S", WITHIN_S)


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
