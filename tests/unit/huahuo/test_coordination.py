"""Which of several nodes does the work: one at a time, and another one soon after it has gone silent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from huahuo.actors.entities.rendezvous_hash import NOTHING, Share
from huahuo.cluster import members
from huahuo.cluster.coordination import LOOK_S, QUIET_S, Duty
from huahuo.cluster.members import SILENT_S, Member
from huahuo.errors import ConfigError
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append
from tests.support.worlds.replicas import Cluster, Node, cluster

pytestmark = pytest.mark.virtual_time


class Worker:
    """A node with its duty, and whether it works."""

    def __init__(self, node: Node, keys: str = "k") -> None:
        self.node = node
        self.working = False
        self.fails = 0
        """How often the log is yet to refuse the beginning of the work."""
        self.knows = True
        """Whether its code knows all that the work has."""
        self.may_rest = asyncio.Event()
        self.may_rest.set()
        self.duty = Duty(
            log=node.log,
            ambient=node.ambient,
            node=node.name,
            tell=lambda beat: Member(
                url=f"http://{node.name}",
                build="t",
                keys=keys,
                beat=beat,
                at_ms=node.ambient.now_ms(),
                applied=0,
            ),
            work=self._work,
            rest=self._rest,
            divide=self._divide,
            known=self._known,
        )
        self.share = NOTHING

    async def _work(self) -> None:
        assert not self.working
        if not self.knows:
            raise ConfigError("this effect is not known")
        self.working = True
        if self.fails:
            self.fails -= 1
            raise Unavailable("not now")

    async def _known(self) -> None:
        if not self.knows:
            raise ConfigError("this effect is not known")

    async def _divide(self, share: Share) -> None:
        if not self.knows and share != NOTHING:
            raise ConfigError("this effect is not known")
        self.share = share

    async def _rest(self) -> None:
        await self.may_rest.wait()
        self.working = False


@contextlib.asynccontextmanager
async def workers() -> AsyncIterator[tuple[Cluster, list[Worker]]]:
    async with cluster() as made:
        each = [Worker(node) for node in made.nodes]
        for worker in each:
            await worker.duty.start()
        yield made, each
        for worker in each:
            await worker.duty.stop()


async def test_a_node_with_other_token_keys_is_refused_and_told_whose_differ() -> None:
    async with workers() as (made, each):
        await each[2].duty.stop()
        stranger = Worker(made.nodes[2], keys="other")
        with pytest.raises(ConfigError, match="the node a takes tokens of another key"):
            await stranger.duty.start()


async def test_a_node_does_its_part_again_once_its_code_has_known_the_work_for_a_minute() -> None:
    async with workers() as (made, each):
        await each[2].duty.stop()
        older = Worker(made.nodes[2])
        older.knows = False
        await older.duty.start()
        await made.pass_s(LOOK_S * 2)
        older.knows = True
        await made.pass_s(QUIET_S - LOOK_S)
        assert older.share == NOTHING
        await made.pass_s(LOOK_S * 2 + 2.0)
        assert older.share.nodes == each[0].duty.sharing == ("a", "b", "c")
        await older.duty.stop()


async def test_a_node_whose_code_does_not_know_the_work_is_refused_where_no_other_node_does_it() -> None:
    async with workers() as (made, each):
        await made.pass_s(3.0)
        for worker in each:
            await worker.duty.stop()
        newer = Worker(made.nodes[2])
        newer.knows = False
        with pytest.raises(ConfigError, match="this effect is not known"):
            await newer.duty.start()
        await newer.duty.stop()


async def test_nodes_that_left_the_work_to_others_say_so_once_nobody_does_it() -> None:
    async with workers() as (made, each):
        newer = [Worker(made.nodes[0]), Worker(made.nodes[1])]
        for before, after in zip(each, newer, strict=False):
            await before.duty.stop()
            after.knows = False
            await after.duty.start()
        await made.pass_s(SILENT_S + 1.0)
        assert each[2].working
        assert [one.duty.undone for one in newer] == ["", ""]
        await each[2].duty.stop()
        await made.pass_s(1.0)
        assert [one.duty.undone for one in newer] == [
            "no node does effects, timers and the rest of the work: this effect is not known"
        ] * 2
        newer[0].knows = True
        newer[0].duty.fit()
        await made.pass_s(1.0)
        assert [one.duty.undone for one in newer] == ["", ""]
        for one in newer:
            await one.duty.stop()


async def test_a_node_that_is_gone_can_be_forgotten() -> None:
    async with workers() as (made, each):
        await each[2].duty.stop()
        await each[0].duty.remove("c")
        await made.caught_up()
        assert set(each[0].duty.members) == {"a", "b"}


async def test_a_node_that_is_drained_while_its_work_stops_does_not_begin_it_again() -> None:
    async with workers() as (made, each):
        first = each[0]
        first.may_rest.clear()
        draining = asyncio.create_task(first.duty.unfit())
        await made.pass_s(1.0)
        first.may_rest.set()
        await draining
        await made.pass_s(1.0)
        assert [worker.working for worker in each].count(True) == 1
        assert not first.working


async def test_work_that_could_not_begin_because_the_log_did_not_answer_is_begun_again() -> None:
    async with workers() as (made, each):
        for worker in each[1:]:
            worker.fails = 1
        await each[0].duty.stop()
        await made.pass_s(2.0)
        assert sorted(worker.fails for worker in each[1:]) == [0, 1]
        assert sum(worker.working and worker.duty.works for worker in each[1:]) == 1


async def test_a_row_of_a_node_that_is_long_gone_gets_no_part() -> None:
    async with workers() as (made, each):
        for worker in each:
            await worker.duty.stop()
        gone = Member(url="", build="t", keys="k", beat=7, at_ms=0, applied=0, divides=members.DIVISION)
        await made.nodes[0].log.append(Append(ts_ms=0, rows=(members.put_member("gone", gone),)))
        again = Worker(made.nodes[1])
        await again.duty.start()
        await made.pass_s(3.0)
        assert again.share.nodes == ("b",)
        await again.duty.stop()
