"""Jobs that another process does: who may, and what becomes of them when that process or the service dies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo import Huahuo
from huahuo.actors.domain import jobs
from huahuo.testing.world import AppWorld, TestClient
from huahuo.transport.client.model import CommandError


@pytest.fixture
def world(tmp_path: Path) -> Iterator[AppWorld]:
    world = AppWorld(Huahuo(plugins=[]), tmp_path / "keys")
    yield world
    world.close()


def state(world: AppWorld) -> jobs.Job:
    found: jobs.Job = world.state("job", 1)[0]
    return found


def begun(world: AppWorld) -> TestClient:
    worker = world.client(1, admin=True)
    assert worker.send("begin_remote_job", name="import", user=42, lease_s=60)["job_id"] == 1
    return worker


def test_its_user_watches_and_cancels_it_and_the_process_hears_of_that(world: AppWorld) -> None:
    worker, alice = begun(world), world.client(42)
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


def test_a_process_that_says_nothing_for_a_lease_is_gone(world: AppWorld) -> None:
    begun(world)
    world.advance(seconds=59)
    assert state(world).status == "running"
    world.advance(seconds=2)
    assert state(world).status == "interrupted"


def test_each_sign_of_life_renews_the_lease(world: AppWorld) -> None:
    worker = begun(world)
    for _ in range(5):
        world.advance(seconds=50)
        worker.send("tell_remote_job", job_id=1, lease_s=60)
    assert state(world).status == "running"
    world.advance(seconds=70)
    assert state(world).status == "interrupted"


def test_a_restart_of_the_service_ends_no_job_of_another_process(world: AppWorld) -> None:
    worker = begun(world)
    world.crash()
    world.advance(seconds=30)
    assert worker.send("tell_remote_job", job_id=1, percent=50, lease_s=60)["status"] == "running"


@pytest.mark.parametrize("user", [42, 43])
def test_who_is_no_administrator_does_no_jobs(world: AppWorld, user: int) -> None:
    begun(world)
    client = world.client(user)
    with pytest.raises(CommandError, match="forbidden"):
        client.send("begin_remote_job", name="import")
    for action, fields in (("tell_remote_job", {"percent": 1}), ("end_remote_job", {"outcome": "done"})):
        with pytest.raises(CommandError, match="forbidden" if user == 42 else "not_found"):
            client.send(action, job_id=1, **fields)
