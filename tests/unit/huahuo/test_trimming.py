"""The ordered log forgets only what all living nodes have applied and what more than one disk holds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from huahuo.cluster import coordination
from huahuo.cluster.coordination import Duty, NotFinal, finalize_format
from huahuo.cluster.members import MEMBERS_TABLE, Member
from huahuo.cluster.trimming import MARKS, MARKS_MAX, Mark, NotTrimmed, Trimmer
from huahuo.eventstore.core.reader import AUDIT_STREAM
from huahuo.eventstore.model import Append, NewEvent
from tests.support.worlds.logs import append, event
from tests.support.worlds.replicas import Cluster, Node, cluster

pytestmark = pytest.mark.virtual_time
KEEP_S = 80.0


class Part:
    """A node with its duty and its trimmer."""

    def __init__(self, node: Node, knows: int = 1) -> None:
        self.node = node
        self.backed_up_ms: int | None = None
        self.duty = Duty(
            log=node.log, ambient=node.ambient, node=node.name, tell=self._tell, work=_nothing, rest=_nothing
        )
        self.knows = knows
        self.trimmer = Trimmer(
            log=node.log,
            replica=node.writer,
            duty=self.duty,
            ambient=node.ambient,
            keep_s=KEEP_S,
            backed_up_ms=lambda: self.backed_up_ms,
        )

    def _tell(self, beat: int) -> Member:
        applied, node = self.node.writer.shared.offset, self.node
        return Member(
            url="", build="t", keys="k", beat=beat, at_ms=node.ambient.now_ms(), applied=applied,
            format=self.knows,
        )  # fmt: skip


async def _nothing() -> None:
    pass


@contextlib.asynccontextmanager
async def parts(names: str = "ab") -> AsyncIterator[tuple[Cluster, list[Part]]]:
    async with cluster(names) as made:
        each = [Part(node) for node in made.nodes]
        for part in each:
            await part.duty.start()
        await made.pass_s(3.0)
        yield made, each
        for part in each:
            await part.duty.stop()


async def test_births_are_not_kept_without_end_while_nothing_may_be_trimmed() -> None:
    async with parts("a") as (made, [part]):
        for _ in range(MARKS_MAX + MARKS):
            await part.node.log.append(append(event("s")))
            await part.trimmer.turn()
            await made.pass_s(KEEP_S / MARKS)
        assert await births(part) == MARKS_MAX
        part.backed_up_ms = part.node.ambient.now_ms()
        await part.trimmer.turn()
        assert await births(part) <= MARKS + 1


async def births(part: Part) -> int:
    [(_, value)] = await part.node.log.rows(MEMBERS_TABLE, "trimmed", after=b"", limit=9)
    return len(msgspec.json.decode(value)["births"])


async def test_a_living_node_that_has_not_applied_it_is_waited_for_and_named() -> None:
    async with parts() as (made, each):
        mark = Mark(made.order.last + 1000, 0, 0)
        assert each[0].trimmer.refusal(mark) is not None
        assert "b" in (each[0].trimmer.refusal(mark) or "")


async def test_the_only_copy_is_not_left_to_one_disk() -> None:
    async with parts("a") as (made, [part]):
        with pytest.raises(NotTrimmed, match=r"the only copy.*--alone"):
            await part.trimmer.now()
        assert made.order.first == 1
        part.backed_up_ms = part.node.ambient.now_ms() + 60_000
        await part.trimmer.now()
        assert made.order.first > 1
        await part.trimmer.now(alone=True)


async def test_shreds_are_listed_until_the_log_is_trimmed_beyond_them() -> None:
    async with parts() as (made, each):
        trimmer, log = each[0].trimmer, made.nodes[0].log
        shred = NewEvent(AUDIT_STREAM, "secrets_shredded", b"{}")
        await log.append(Append(ts_ms=made.nodes[0].ambient.now_ms(), events=(shred,)))
        await trimmer.turn()
        assert list(trimmer.shreds) == [log.position]
        await made.pass_s(5.0)
        assert trimmer.oldest_shred_s >= 5.0
        await log.append(append(event("s")))
        await asyncio.gather(trimmer.now(), made.pass_s(5.0))
        assert trimmer.shreds == {}


async def test_the_format_is_final_when_every_node_knows_it() -> None:
    async with parts() as (made, each):
        each[0].knows = 2
        await made.pass_s(3.0)
        with pytest.raises(NotFinal, match="the node b of build t knows format 1: update it"):
            await finalize_format(each[0].duty)
        assert await coordination.read_format(made.nodes[1].log) == 0
        each[1].knows = 2
        await made.pass_s(3.0)
        assert await finalize_format(each[0].duty) == 2
        await made.caught_up()
        assert await coordination.read_format(made.nodes[1].log) == 2


async def test_a_node_that_is_silent_is_forgotten_before_the_format_is_final() -> None:
    async with parts() as (made, each):
        await each[1].duty.stop()
        await made.pass_s(12.0)
        with pytest.raises(NotFinal, match="huahuo cluster remove b"):
            await finalize_format(each[0].duty)
