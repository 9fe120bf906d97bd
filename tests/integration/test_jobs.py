"""Jobs of an application.

From asyncio, threads and other processes, cancelled by their user, and over kill -9.
"""

import asyncio
import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huahuo import Huahuo, HuahuoError, Refused, Service
from huahuo.actors.domain import jobs as job_entity
from huahuo.actors.domain.jobs import Job
from huahuo.embedding import jobs
from huahuo.eventstore.errors import Unavailable
from huahuo.testing.world import AppWorld, TestClient
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError, StreamDenied


@pytest.fixture
def world(tmp_path: Path) -> Iterator[AppWorld]:
    world = AppWorld(Huahuo(), tmp_path / "data")
    yield world
    world.close()


def job_of(world: AppWorld) -> jobs.Job:
    return jobs.Job(world.running, "import", 42)


def state_of(world: AppWorld) -> Job:
    state: Job = world.state("job", 1)[0]
    return state


def test_a_job_ends_as_done_at_the_end_of_its_block(world: AppWorld) -> None:
    async def work() -> None:
        async with job_of(world) as job:
            assert job.stream == "job/1"
            await job.progress(40, "4 of 10 files")
        assert job.outcome == "done"

    world.run(work())
    alice = world.client(42)
    alice.follow("job/1")
    assert [event["type"] for event in alice.events("job/1")] == ["job_started", "job_progress", "job_ended"]


def test_an_exception_goes_on_and_its_text_stays_out_of_the_log(world: AppWorld) -> None:
    async def work() -> None:
        async with job_of(world):
            raise ValueError("the password is tea")

    with pytest.raises(ValueError, match="tea"):
        world.run(work())
    assert (state_of(world).status, state_of(world).error, state_of(world).message) == (
        "failed",
        "ValueError",
        "",
    )


@pytest.mark.parametrize(
    ("percent", "message", "said"),
    [
        (200, "", "percent: 200 is not between 0 and 100"),
        ("40", "", "percent: '40' is not between 0 and 100"),
        (40, 4, "message: 4 is no text"),
    ],
)
def test_a_progress_that_is_none_is_refused(percent: Any, message: Any, said: str, world: AppWorld) -> None:
    async def work() -> None:
        async with job_of(world) as job:
            with pytest.raises(Refused, match=said):
                await job.progress(percent, message)

    world.run(work())
    assert state_of(world).status == "done"


def test_a_job_without_its_block_says_how_it_begins(world: AppWorld) -> None:
    async def work() -> None:
        with pytest.raises(HuahuoError, match=r"write async with app\.job\(…\) as job"):
            await job_of(world).progress(4)

    world.run(work())


def test_an_application_fails_a_job_in_its_own_words(world: AppWorld) -> None:
    async def work() -> None:
        async with job_of(world) as job:
            await job.fail("3 of 10 files are damaged")
            with pytest.raises(Refused, match="conflict"):
                await job.progress(50)

    world.run(work())
    assert (state_of(world).status, state_of(world).message) == ("failed", "3 of 10 files are damaged")


def test_a_cancel_of_its_user_ends_the_block(world: AppWorld) -> None:
    alice, after = world.client(42), []

    async def work() -> None:
        async with job_of(world):
            await asyncio.sleep(3600)
        after.append("goes on behind the block")

    running = world.begin(work())
    world.advance(seconds=1)
    assert alice.send("cancel_job", job_id=1)["at"] == {"stream": "job/1", "seq": 2, "position": 2}
    world.run(asyncio.wait_for(running, 5))
    assert state_of(world).status == "cancelled"
    assert after
    assert not running.cancelled()


def test_a_block_that_awaits_the_cancel_ends_by_itself(world: AppWorld) -> None:
    async def work() -> None:
        async with job_of(world) as job:
            assert not job.cancelled
            await job.cancelled
            await job.message("removing what was imported")

    running = world.begin(work())
    world.advance(seconds=1)
    world.client(42).send("cancel_job", job_id=1)
    world.run(asyncio.wait_for(running, 5))
    assert (state_of(world).status, state_of(world).message) == ("cancelled", "removing what was imported")


def test_a_task_that_somebody_else_cancels_is_interrupted(world: AppWorld) -> None:
    async def work() -> None:
        async with job_of(world):
            await asyncio.sleep(3600)

    running = world.begin(work())
    world.advance(seconds=1)
    running.cancel()
    world.advance(seconds=1)
    assert running.cancelled()
    assert state_of(world).status == "interrupted"


def test_a_crash_interrupts_open_jobs(world: AppWorld) -> None:
    world.run(job_of(world).begin())
    world.crash()
    assert state_of(world).status == "interrupted"


def fill(world: AppWorld) -> None:
    """From now on there is no room on the disk, until `room`."""
    world._disk.fail_writes += [errno.ENOSPC] * 1_000  # noqa: SLF001  a fault that no application causes


def room(world: AppWorld) -> None:
    world._disk.fail_writes.clear()  # noqa: SLF001  as above


def test_an_end_that_met_a_full_disk_is_written_once_there_is_room(world: AppWorld) -> None:
    async def work() -> None:
        async with job_of(world):
            fill(world)

    with pytest.raises(Unavailable):
        world.run(work())
    world.advance(minutes=1)
    assert state_of(world).status == "running"
    room(world)
    world.advance(seconds=10)
    assert state_of(world).status == "done"


def test_a_service_that_stops_on_a_full_disk_leaves_its_jobs_to_the_next_start(world: AppWorld) -> None:
    async def work() -> None:
        async with job_of(world):
            fill(world)

    with pytest.raises(Unavailable):
        world.run(work())
    world.run(world.running.stop())
    room(world)
    world.crash()
    assert state_of(world).status == "interrupted"


def test_a_thread_has_the_same_job(tmp_path: Path) -> None:
    with Service(data=tmp_path / "data", port=0, plugins=[]) as service:
        with service.job("import", user=42) as job:
            job.progress(40, "4 of 10 files")
            assert not job.cancelled
        assert (job.stream, job.outcome) == ("job/1", "done")
        with pytest.raises(KeyError), service.job("import") as job:
            raise KeyError("secret")
        assert service.state("job", 2)[0].error == "KeyError"
        reached: list[str] = []
        with service.job("import", user=42) as job:
            service.send("cancel_job", job_id=3, as_user=42)
            job.progress(50)
            reached.append("went on")
        assert (job.outcome, reached) == ("cancelled", [])
        with pytest.raises(Refused, match="name"), service.job(""):
            pass


def test_the_python_client_watches_a_job_to_its_end_and_cancels_it(world: AppWorld) -> None:
    async def work() -> None:
        async with job_of(world) as job:
            await job.progress(40, "4 of 10 files")
            await job.cancelled

    async def watch(client: Client) -> list[tuple[float, str, str]]:
        seen = []
        async with client.job(1) as job:
            async for now in job:
                seen.append((now.percent, now.message, now.status))
                if now.status == "running":
                    await job.cancel()
            assert job.now.ended
            assert (await job.wait()).status == "cancelled"
            with pytest.raises(CommandError, match="conflict"):
                await job.cancel()
        return seen

    running = world.begin(work())
    world.advance(seconds=1)
    alice = world.client(42)
    seen = world.run(watch(alice.client))
    assert seen == [(40, "4 of 10 files", status) for status in ("running", "cancelling", "cancelled")]
    with contextlib.suppress(asyncio.CancelledError):
        world.run(asyncio.wait_for(running, 1))


def test_a_job_of_somebody_else_cannot_be_watched(world: AppWorld) -> None:
    async def watch(client: Client) -> None:
        async with client.job(1):
            pass

    with pytest.raises(StreamDenied):
        world.run(watch(world.client(43).client))


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[AppWorld]:
    keyed = AppWorld(Huahuo(plugins=[]), tmp_path / "keys")
    yield keyed
    keyed.close()


def state(keyed: AppWorld) -> job_entity.Job:
    found: job_entity.Job = keyed.state("job", 1)[0]
    return found


def begun(keyed: AppWorld) -> TestClient:
    worker = keyed.client(1, admin=True)
    assert worker.send("begin_remote_job", name="import", user=42, lease_s=60)["job_id"] == 1
    return worker


def test_its_user_watches_and_cancels_it_and_the_process_hears_of_that(keyed: AppWorld) -> None:
    worker, alice = begun(keyed), keyed.client(42)
    alice.follow("job/1")
    assert worker.send("tell_remote_job", job_id=1, percent=40, message="4 of 10")["status"] == "running"
    alice.send("cancel_job", job_id=1)
    assert worker.send("tell_remote_job", job_id=1)["status"] == "cancelling"
    assert worker.send("end_remote_job", job_id=1, outcome="done")["status"] == "cancelled"
    assert worker.send("end_remote_job", job_id=1, outcome="failed")["status"] == "cancelled"
    assert [event["type"] for event in alice.events("job/1")] == [
        "job_started", "job_progress", "job_cancel_requested", "job_ended"
    ]  # fmt: skip
    with pytest.raises(CommandError, match="conflict"):
        worker.send("tell_remote_job", job_id=1, percent=50)


def test_a_process_that_says_nothing_for_a_lease_is_gone(keyed: AppWorld) -> None:
    begun(keyed)
    keyed.advance(seconds=59)
    assert state(keyed).status == "running"
    keyed.advance(seconds=2)
    assert state(keyed).status == "interrupted"


def test_each_sign_of_life_renews_the_lease(keyed: AppWorld) -> None:
    worker = begun(keyed)
    for _ in range(5):
        keyed.advance(seconds=50)
        worker.send("tell_remote_job", job_id=1, lease_s=60)
    assert state(keyed).status == "running"
    keyed.advance(seconds=70)
    assert state(keyed).status == "interrupted"


def test_a_restart_of_the_service_ends_no_job_of_another_process(keyed: AppWorld) -> None:
    worker = begun(keyed)
    keyed.crash()
    keyed.advance(seconds=30)
    assert worker.send("tell_remote_job", job_id=1, percent=50, lease_s=60)["status"] == "running"


@pytest.mark.parametrize("user", [42, 43])
def test_who_is_no_administrator_does_no_jobs(keyed: AppWorld, user: int) -> None:
    begun(keyed)
    client = keyed.client(user)
    with pytest.raises(CommandError, match="forbidden"):
        client.send("begin_remote_job", name="import")
    for action, fields in (("tell_remote_job", {"percent": 1}), ("end_remote_job", {"outcome": "done"})):
        with pytest.raises(CommandError, match="forbidden" if user == 42 else "not_found"):
            client.send(action, job_id=1, **fields)
