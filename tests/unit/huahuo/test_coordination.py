"""Which of several nodes does the work: one at a time, and another one soon after it has gone silent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from huahuo.actors.entities.rendezvous_hash import NOTHING, Share
from huahuo.cluster.coordination import LOOK_S, QUIET_S, Duty
from huahuo.cluster.members import Member
from huahuo.errors import ConfigError
from huahuo.eventstore.errors import Unavailable
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


async def test_a_node_that_is_gone_can_be_forgotten() -> None:
    async with workers() as (made, each):
        await each[2].duty.stop()
        await each[0].duty.remove("c")
        await made.caught_up()
        assert set(each[0].duty.members) == {"a", "b"}


async def test_work_that_could_not_begin_because_the_log_did_not_answer_is_begun_again() -> None:
    async with workers() as (made, each):
        for worker in each[1:]:
            worker.fails = 1
        await each[0].duty.stop()
        await made.pass_s(2.0)
        assert sorted(worker.fails for worker in each[1:]) == [0, 1]
        assert sum(worker.working and worker.duty.works for worker in each[1:]) == 1
