"""A node whose clock is wrong says so, takes no work and is not ready, until it is set right."""

import pytest

from huahuo.cluster.clock import LOOK_S, Clock
from huahuo.cluster.coordination import Duty
from huahuo.cluster.members import Member
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.replicated.peers import FRESH_S, Clocks, judged
from tests.support.worlds.replicas import Node, cluster

pytestmark = pytest.mark.virtual_time
NOON_MS = 1_800_000_000_000


class Working:
    """A node with its clock and its duty."""

    def __init__(self, node: Node) -> None:
        self.works = False
        self.told: list[str | None] = []
        self.duty = Duty(
            log=node.log, ambient=node.ambient, node=node.name, work=self._work, rest=self._rest,
            tell=lambda beat: Member(url=node.name, build="1", keys="k", beat=beat, at_ms=0, applied=0),
        )  # fmt: skip
        self.clock = Clock(node.writer.clocks, self.duty, self.told.append)

    async def _work(self) -> None:
        self.works = True

    async def _rest(self) -> None:
        self.works = False


@pytest.mark.parametrize(("off_s", "why"), [(-600, "behind"), (600, "ahead of"), (3600, "ahead of")])
async def test_one_of_three_with_another_time_says_so_and_leaves_the_work(off_s: int, why: str) -> None:
    async with cluster("abc") as made:
        made.nodes[0].ambient.jump(1000 * off_s)
        each = [Working(node) for node in made.nodes]
        for one in each:
            await one.duty.start()
        assert [one.works for one in each] == [True, False, False]
        for one in each:
            one.clock.start()
        await made.pass_s(FRESH_S)
        assert not each[0].works
        assert [one.works for one in each].count(True) == 1
        told = each[0].told[-1]
        assert told is not None
        assert why in told
        assert [one.told for one in each[1:]] == [[], []]
        made.nodes[0].ambient.jump(-1000 * off_s)
        await made.pass_s(3 * LOOK_S)
        assert each[0].told[-1] is None
        for one in each:
            await one.clock.stop()
            await one.duty.stop()


def clocks(*ahead_s: int) -> tuple[Clocks, FakeAmbient]:
    """The clocks of a node that has heard others with clocks as far ahead of its own, twice."""
    ambient = FakeAmbient(1, now_ms=NOON_MS)
    made = Clocks(ambient)
    hear(made, ambient, *ahead_s)
    made.look()
    made.look()
    return made, ambient


def hear(made: Clocks, ambient: FakeAmbient, *ahead_s: int) -> None:
    for number, ahead in enumerate(ahead_s):
        made.hear(f"n{number}", ambient.now_ms() + 1000 * ahead)


def test_a_clock_that_is_known_to_be_wrong_stays_so_until_another_agrees() -> None:
    made, ambient = clocks(-600, -600)
    assert made.trouble == "the clock of this node is 600 s ahead of those of the others"
    ambient.advance(2 * FRESH_S)
    hear(made, ambient, 600, -600)
    made.look()
    assert made.trouble is not None
    ambient.advance(2 * FRESH_S)
    hear(made, ambient, 0, -600)
    made.look()
    made.look()
    assert made.trouble is None


def test_what_waited_for_a_log_that_was_away_says_nothing_of_the_clocks() -> None:
    made, ambient = clocks(0, 0)
    ambient.advance(600)
    hear(made, ambient, -600, -600)  # what was proposed before the log went away
    made.look()
    hear(made, ambient, 0, 0)
    made.look()
    made.look()
    assert made.trouble is None


@pytest.mark.parametrize("off_s", [-3600, 600, 3600])
def test_a_node_whose_clock_is_wrong_knows_the_time_of_the_others_until_it_is_right(off_s: int) -> None:
    made, ambient = clocks(-off_s, -off_s)
    ambient.advance(5)
    there_ms = NOON_MS - 1000 * off_s + 5_000
    assert made.others_ms() == there_ms
    ambient.jump(-1000 * off_s)
    assert made.others_ms() == there_ms, "a clock that is set changes nothing of it"
    made.look()
    made.look()
    assert made.others_ms() is None


@pytest.mark.parametrize("ahead_s", [(-1200,), (-3600,), (1200,), (-1200, -1200), (-1200, 2400)])
def test_a_node_knows_what_time_the_one_furthest_behind_has(ahead_s: tuple[int, ...]) -> None:
    made, ambient = clocks(*ahead_s)
    ambient.advance(5)
    assert made.earliest_ms() == NOON_MS + 1000 * min(ahead_s) + 5_000
    ambient.advance(10 * FRESH_S)
    made.look()
    assert made.earliest_ms() == NOON_MS + 1000 * min(ahead_s) + 5_000 + 10_000 * FRESH_S, "nobody speaks"


def test_a_node_with_which_another_agrees_goes_by_no_earlier_time() -> None:
    assert clocks(0, -1200)[0].earliest_ms() is None


@pytest.mark.parametrize(
    ("ahead_ms", "is_wrong"),
    [
        ([], False),
        ([600_000], False),  # of two, nobody knows which is wrong
        ([600_000, 0], False),
        ([600_000, -600_000], False),
        ([600_000, 600_000], True),
        ([59_000, 600_000], False),
        ([0, 0, 600_000, 600_000], False),
        ([0, 600_000, 600_000, 600_000], True),
    ],
)
def test_a_clock_is_wrong_if_most_others_differ_alike(ahead_ms: list[int], is_wrong: bool) -> None:
    assert (judged(ahead_ms) is not None) == is_wrong
