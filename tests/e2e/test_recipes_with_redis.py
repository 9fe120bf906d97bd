"""The recipes for Celery and RQ in their real workers, over a real Redis; one of them is killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from rq import Queue

from tests.support.drivers.snippets import ROOT, block
from tests.support.patience import WITHIN_S
from tests.support.servers.redis import redis_server
from tests.support.servers.serving import Serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

FILES = ["a", "b", "c", "d"]
STEPS = ["job_started", *["job_progress"] * 5, "job_ended"]
BEFORE = """
import os, signal
from huahuo import Publisher

token = os.environ["HUAHUO_TOKEN"]
telling = Publisher(os.environ["SERVICE"], token)

def load(file):
    if file == "wait":
        telling.publish("user/42", "waits", {"pid": os.getpid()})
        signal.pause()
"""
AFTER = {
    "celery": "\ncelery.conf.update(broker_url=os.environ['REDIS'], result_backend=os.environ['REDIS'])\n",
    "rq": "",
}
COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "celery": lambda _: ["celery", "-A", "shop", "worker", "-P", "prefork", "-c", "2", "-l", "warning"],
    "rq": lambda redis: ["rq.cli", "worker", "--url", redis, "--quiet"],
}


class Log:
    """The events of all streams, in order."""

    def __init__(self, server: Serving) -> None:
        self._url = f"{server.url}/streams/log"
        self._headers = {"Authorization": f"Bearer {server.token(1, 'root', admin=True)}"}
        self._at = 0

    def until(self, kind: str) -> list[dict[str, Any]]:
        """The next events, up to one of this type."""
        found: list[dict[str, Any]] = []
        while not found or found[-1]["type"] != kind:
            url = f"{self._url}?after={self._at}&limit=1&wait={WITHIN_S:.0f}"
            asked = urllib.request.Request(url, headers=self._headers)
            with urllib.request.urlopen(asked, timeout=2 * WITHIN_S) as answer:
                more = json.load(answer)["events"]
            assert more, f"nothing came after {found}"
            found += more
            self._at = more[-1]["seq"]
        return found


@contextlib.contextmanager
def worker(name: str, server: Serving, redis: str, folder: Path) -> Iterator[Callable[..., object]]:
    """A worker of this kind with the task of the page; gives what queues it."""
    text = block("docs/recipes.md", name, url=server.url)
    # A minute is kept for a process that says nothing; the one that is killed need not wait as long.
    task = text.replace("user=user)", "user=user, lease_s=10 if 'wait' in files else 60)")
    assert task != text
    (folder / "shop.py").write_text(BEFORE + task + AFTER[name])
    environ = os.environ | {
        "SERVICE": server.url,
        "HUAHUO_TOKEN": server.token(1, "root", admin=True),
        "REDIS": redis,
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with (folder / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *COMMANDS[name](redis)],
            cwd=folder, env=environ, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            with Redis.from_url(redis) as connection:
                yield queuing(name, redis, connection)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(WITHIN_S)


def queuing(name: str, redis: str, connection: Redis) -> Callable[..., object]:
    if name == "rq":
        jobs = Queue(connection=connection)
        return lambda *arguments: jobs.enqueue("shop.import_files", *arguments)
    celery = Celery("shop", broker=redis, backend=redis)
    return lambda *arguments: celery.send_task("shop.import_files", arguments)


@pytest.mark.parametrize("name", ["celery", "rq"])
def test_a_task_over_redis_is_a_job_and_one_whose_process_is_killed_ends_as_interrupted(
    server: Serving, tmp_path: Path, name: str
) -> None:
    log = Log(server)
    with redis_server() as redis, worker(name, server, redis, tmp_path) as queue:
        for then in ("first", "again"):
            queue(FILES, 42)
            told = of_jobs(log.until("job_ended"))
            assert ([event["type"] for event in told], told[-1]["outcome"]) == (STEPS, "done"), then
            if then == "first":
                queue([*FILES, "wait"], 42)
                told = log.until("waits")
                os.kill(told[-1]["pid"], signal.SIGKILL)
                assert of_jobs(told)[-1]["percent"] == 80
                assert log.until("job_ended")[-1]["outcome"] == "interrupted"


def of_jobs(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["type"].startswith("job_")]
