"""The built-in kind `job`: what happens to one, who may cancel it, and that it always ends."""

import pytest

from huahuo.actors.domain import jobs
from huahuo.actors.domain.job_service import is_left
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
