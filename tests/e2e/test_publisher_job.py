"""`Publisher.job` against the real service, while one of the two is killed."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo import JobCancelled, Publisher
from tests.support.patience import until
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORKER = """
import sys, time
from huahuo import Publisher
with Publisher(sys.argv[1], sys.argv[2]).job("import", user=42, lease_s=3) as job:
    job.progress(10)
    print(job.id, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("jobs") / "data") as running:
        yield running


def publisher(server: Serving) -> Publisher:
    return Publisher(server.url, server.token(1, "root", admin=True))


def events(server: Serving, stream: str) -> list[dict[str, object]]:
    token = server.token(42, "alice")
    url = f"{server.url}/streams/{stream}?after=0"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked) as answer:
        found: list[dict[str, object]] = json.load(answer)["events"]
    return found


def outcome(server: Serving, stream: str) -> object:
    return events(server, stream)[-1].get("outcome")


def test_a_job_goes_on_over_a_kill_of_the_service(server: Serving) -> None:
    with publisher(server).job("import", user=42) as job:
        job.progress(40, "4 of 10 files")
        server.kill()
        server.start()
        job.progress(80)
    assert job.outcome == "done"
    assert [event["type"] for event in events(server, job.stream)] == [
        "job_started", "job_progress", "job_progress", "job_ended"
    ]  # fmt: skip


def test_an_exception_fails_it_and_goes_on(server: Serving) -> None:
    with pytest.raises(ZeroDivisionError), publisher(server).job("import", user=42) as job:
        raise ZeroDivisionError("canary")
    [*_, ended] = events(server, job.stream)
    assert (ended["outcome"], ended["error"], "canary" in str(ended)) == (
        "failed",
        "ZeroDivisionError",
        False,
    )


def test_a_cancel_of_its_user_ends_the_block_silently(server: Serving) -> None:
    after = []
    with publisher(server).job("import", user=42) as job:
        Publisher(server.url, server.token(42, "alice")).send("cancel_job", job_id=job.id)
        job.progress(50)
        after.append("not reached")
    assert (job.outcome, after) == ("cancelled", [])
    with publisher(server).job("import", user=42, lease_s=5) as job:
        Publisher(server.url, server.token(42, "alice")).send("cancel_job", job_id=job.id)
        until(lambda: job.cancelled)
    assert job.outcome == "cancelled"
    assert issubclass(JobCancelled, Exception)


def test_a_process_that_is_killed_leaves_an_interrupted_job(server: Serving, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", WORKER, server.url, server.token(1, "root", admin=True)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as worker:
        assert worker.stdout is not None
        stream = f"job/{int(worker.stdout.readline())}"
        os.kill(worker.pid, signal.SIGKILL)
    until(lambda: outcome(server, stream) == "interrupted")
