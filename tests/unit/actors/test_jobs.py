"""The built-in kind `job`: what happens to one, who may cancel it, and that it always ends."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from huahuo.actors.domain import jobs
from huahuo.actors.domain.job_service import is_left
from huahuo.actors.domain.structs import Refused
from tests.support.worlds.effects import Works, on_nodes
from tests.support.worlds.orders import ADMIN, ALICE, BOB, Engine, in_engine
from tests.support.worlds.scenario import scenario


async def types(engine: Engine, stream: str = "job/1") -> list[str]:
    return [body["type"].removeprefix("job_") for body in await engine.bodies(stream)]


@scenario(in_engine)
async def test_a_job_tells_its_progress_and_ends_once(engine: Engine) -> None:
    assert await engine.api.jobs.begin("import", 42) == 1
    await engine.api.jobs.tell(1, jobs.report_of(40, "4 of 10 files"))
    await engine.api.jobs.tell(1, jobs.say_of("a row is odd"))
    await engine.api.jobs.tell(1, jobs.EndJob("done"))
    await engine.api.jobs.tell(1, jobs.EndJob("failed"))
    assert await engine.bodies("job/1") == [
        {"type": "job_started", "name": "import", "user": 42},
        {"type": "job_progress", "percent": 40, "message": "4 of 10 files"},
        {"type": "job_message", "message": "a row is odd"},
        {"type": "job_ended", "outcome": "done", "error": "", "message": ""},
    ]
    state = await engine.api.jobs.state(1)
    assert (state.percent, state.message, state.outcome) == (40, "a row is odd", "done")


@scenario(in_engine)
async def test_a_job_that_has_ended_is_told_nothing_more(engine: Engine) -> None:
    await engine.api.jobs.begin("import", 42)
    await engine.api.jobs.tell(1, jobs.EndJob("done"))
    with pytest.raises(Refused, match="conflict"):
        await engine.api.jobs.tell(1, jobs.report_of(50, ""))
    assert (await engine.send("cancel_job", ALICE, job_id=1))["code"] == "conflict"


@scenario(in_engine)
async def test_its_user_and_administrators_cancel_it_and_nobody_else_sees_it(engine: Engine) -> None:
    await engine.api.jobs.begin("import", 42)
    assert (await engine.send("cancel_job", BOB, job_id=1))["code"] == "not_found"
    assert not await engine.may_read("job", 1, BOB)
    assert await engine.may_read("job", 1, ALICE)
    assert (await engine.send("cancel_job", ALICE, job_id=1))["at"] == {"stream": "job/1", "seq": 2}
    assert (await engine.send("cancel_job", ADMIN, job_id=1))["type"] == "success"
    assert await types(engine) == ["started", "cancel_requested"]
    await engine.api.jobs.tell(1, jobs.EndJob("done"))
    assert (await engine.api.jobs.state(1)).outcome == "cancelled"


@scenario(in_engine)
async def test_a_job_without_a_user_is_for_administrators(engine: Engine) -> None:
    await engine.api.jobs.begin("tidy", None)
    assert (await engine.send("cancel_job", ALICE, job_id=1))["code"] == "not_found"
    assert (await engine.send("cancel_job", ADMIN, job_id=1))["type"] == "success"


@scenario(in_engine)
async def test_a_start_ends_every_job_that_was_left_open_and_no_other(engine: Engine) -> None:
    for number in range(300):
        await engine.api.jobs.begin(f"import {number}", 42)
    await engine.api.jobs.tell(7, jobs.EndJob("done"))
    await engine.api.work()
    outcomes = [(await engine.api.jobs.state(number)).outcome for number in range(1, 301)]
    assert outcomes[6] == "done"
    assert outcomes.count("interrupted") == 299
    await engine.api.work()
    assert await types(engine) == ["started", "ended"]


@pytest.mark.parametrize("percent", [-1, 100.5, float("nan")])
def test_a_progress_is_between_0_and_100(percent: float) -> None:
    with pytest.raises(Refused, match="percent"):
        jobs.report_of(percent, "")


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
    left = [await dead.engine.api.jobs.begin("import", 42) for _ in range(MANY)]
    kept = [await nodes[0].engine.api.jobs.begin("import", 42) for _ in range(MANY)]
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
    job = await nodes[1].engine.api.jobs.begin("import", 42)
    await nodes[0].divide("a")
    await nodes[1].divide()
    await asyncio.sleep(600)
    assert await ends(nodes[0], job) == []


@scenario(dividing)
async def test_the_jobs_of_a_nodes_last_life_are_ended_in_its_next_one(nodes: list[Works]) -> None:
    left = [await nodes[1].engine.api.jobs.begin("import", 42) for _ in range(MANY)]
    await nodes[1].crash()
    await nodes[1].divide("a", "b")
    await asyncio.sleep(4)
    assert [await ends(nodes[0], job) for job in left] == [["interrupted"]] * MANY


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
