"""Jobs whose process ended: which those are, and that another node ends them soon, and no others."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from huahuo.actors.domain import jobs
from huahuo.actors.domain.job_service import is_left
from huahuo.actors.domain.projection_rows import TABLE_PREFIX
from tests.support.worlds.effects import Works, on_nodes
from tests.support.worlds.orders import Engine, in_engine
from tests.support.worlds.scenario import scenario

DIVIDED_AGAIN_S = 7.5
"""When the others do what a node that died did."""
ENDED_WITHIN_S = 10.0
MANY = 12


def dividing(test: Callable[[list[Works]], Awaitable[None]], names: str = "ab") -> None:
    """Run `test` on nodes that divide the work."""

    async def run(*nodes: Works) -> None:
        await divide([*nodes], names)
        await asyncio.sleep(30)
        await test([*nodes])

    on_nodes(run, names=names)


async def divide(nodes: list[Works], names: str) -> None:
    await asyncio.gather(*(node.divide(*names) for node in nodes))


async def dies(node: Works) -> None:
    node.disk.fence_off()
    await node.abandon()
    node.log.writer.halt("killed")  # type: ignore[attr-defined]


async def ends(node: Works, job: int) -> list[str]:
    return [body["outcome"] for body in await node.engine.bodies(f"job/{job}") if "outcome" in body]


@scenario(dividing, "abc")
async def test_the_jobs_of_a_node_that_died_are_ended_once_within_10_s_while_other_nodes_live(
    nodes: list[Works],
) -> None:
    dead = nodes.pop()
    left = [await dead.engine.api.jobs.start("import", 42) for _ in range(MANY)]
    kept = [await nodes[0].engine.api.jobs.start("import", 42) for _ in range(MANY)]
    await asyncio.sleep(5)
    await dies(dead)
    await asyncio.sleep(DIVIDED_AGAIN_S)
    await divide(nodes, "ab")
    await asyncio.sleep(ENDED_WITHIN_S - DIVIDED_AGAIN_S)
    assert [await ends(nodes[0], job) for job in left] == [["interrupted"]] * MANY
    await asyncio.sleep(120)
    assert [await ends(nodes[1], job) for job in left] == [["interrupted"]] * MANY
    assert [await ends(nodes[1], job) for job in kept] == [[]] * MANY
    await dead.log.close()


@scenario(dividing)
async def test_the_job_of_a_node_that_is_drained_goes_on(nodes: list[Works]) -> None:
    job = await nodes[1].engine.api.jobs.start("import", 42)
    await nodes[0].divide("a")
    await nodes[1].divide()
    await asyncio.sleep(600)
    assert await ends(nodes[0], job) == []


@scenario(dividing)
async def test_the_jobs_of_a_nodes_last_life_are_ended_in_its_next_one(nodes: list[Works]) -> None:
    left = [await nodes[1].engine.api.jobs.start("import", 42) for _ in range(MANY)]
    await nodes[1].crash()
    await nodes[1].divide("a", "b")
    await asyncio.sleep(4)
    assert [await ends(nodes[0], job) for job in left] == [["interrupted"]] * MANY


@scenario(dividing)
async def test_a_quiet_cluster_does_not_read_the_table_of_open_jobs(nodes: list[Works]) -> None:
    await nodes[1].engine.api.jobs.start("import", 42)
    await asyncio.sleep(30)
    log, reads = nodes[0].log, []
    rows = log.rows

    def counted(table: str, *args: object, **more: object) -> object:
        reads.append(table)
        return rows(table, *args, **more)  # type: ignore[arg-type]

    log.rows = counted  # type: ignore[method-assign,assignment]
    await asyncio.sleep(600)
    assert TABLE_PREFIX + jobs.TABLE not in reads


@scenario(in_engine)
async def test_the_row_of_an_open_job_of_a_service_alone_is_its_name(engine: Engine) -> None:
    await engine.api.jobs.start("import", 42)
    [(_key, row)] = await engine.log.rows(TABLE_PREFIX + jobs.TABLE, jobs.OPEN, limit=9)
    assert row == b'"import"'
    assert jobs.begun_by(row) == ""


@pytest.mark.parametrize(
    ("by", "living", "sharing", "settled", "left"),
    [
        pytest.param("b.1", {"a.1", "b.1"}, {"a", "b"}, True, False, id="lives"),
        pytest.param("b.1", {"a.1", "b.1"}, {"a"}, True, False, id="lives and does no part"),
        pytest.param("b.1", {"a.1"}, {"a", "b"}, True, False, id="silent, and still has a part"),
        pytest.param("b.1", {"a.1"}, {"a"}, False, False, id="silent, and this node was cut off"),
        pytest.param("b.1", {"a.1"}, {"a"}, True, True, id="gone"),
        pytest.param("b.1", {"a.1", "b.2"}, {"a", "b"}, False, True, id="followed by its next life"),
        pytest.param("", {"a.1", "b.1"}, {"a", "b"}, True, False, id="unnamed, and others live"),
        pytest.param("", {"a.1"}, {"a"}, True, True, id="unnamed, and nobody else lives"),
        pytest.param("", set(), {""}, True, True, id="of a service alone"),
        pytest.param("b.1", set(), {""}, True, True, id="of a node whose backup is a service alone"),
    ],
)
def test_a_job_is_left_once_its_incarnation_has_ended(
    by: str, living: set[str], sharing: set[str], settled: bool, left: bool
) -> None:
    assert is_left(by, living, sharing, settled=settled) is left
