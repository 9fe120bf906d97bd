"""Tasks of Celery and RQ as jobs that users watch, and sending to groups, with the real service."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from rq import Queue, SimpleWorker

from huahuo import Huahuo, HuahuoError, Publisher, Refused
from huahuo.integrations import celery as with_celery
from huahuo.integrations import rq as with_rq
from huahuo.integrations.groups import group_send_from
from tests.support.drivers.http import ask
from tests.support.drivers.snippets import run, snippet
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

FILES = ["a", "b", "c", "d"]
STEPS = ["job_started", *["job_progress"] * 5, "job_ended"]
queue = Celery("tests", broker="memory://", backend="cache+memory://")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("recipes") / "data") as running:
        yield running


def publisher(url: str, token: str) -> Publisher:
    return Publisher(url, token)


def admin(server: Serving) -> tuple[str, str]:
    return server.url, server.token(1, "root", admin=True)


def events(server: Serving, stream: str) -> list[dict[str, Any]]:
    token = server.token(42, "alice", groups=("lobby",))
    return list(ask(f"{server.url}/streams/{stream}?after=0", token).json()["events"])


async def recipe(server: Serving, name: str, **names: Any) -> dict[str, Any]:
    """What a block of the page leaves, run as it stands there."""
    names |= {"token": admin(server)[1]}
    await run(snippet("docs/recipes.md", name, url=server.url), names)
    return names


async def test_the_task_of_the_page_is_a_job_in_a_worker_of_celery(server: Serving) -> None:
    loaded: list[str] = []
    made = await recipe(server, "celery", load=loaded.append)
    app: Celery = made["celery"]
    app.conf.update(broker_url="memory://", result_backend="cache+memory://")
    with start_worker(app, pool="solo", perform_ping_check=False):
        result = await asyncio.to_thread(made["import_files"].delay(FILES, 42).get, timeout=WITHIN_S)
    assert (result, loaded) == (None, FILES)


async def test_the_task_of_the_page_is_a_job_in_a_worker_of_rq(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    made = await recipe(server, "rq", load=loaded.append, __name__=__name__)
    monkeypatch.setattr(sys.modules[__name__], "import_files", made["import_files"], raising=False)
    redis = fakeredis.FakeStrictRedis()
    jobs = Queue(connection=redis)
    queued = jobs.enqueue(made["import_files"], FILES, 42)
    SimpleWorker([jobs], connection=redis).work(burst=True)
    queued.refresh()  # type: ignore[no-untyped-call]
    assert (loaded, queued.meta["percent"]) == (FILES, 100)


async def test_both_ways_of_the_page_reach_a_group(server: Serving, tmp_path: Path) -> None:
    async with Huahuo(data=tmp_path / "inside", port=0) as app:
        before = len(events(server, "group/lobby"))
        await recipe(server, "groups", app=app, publisher=publisher(*admin(server)))
        async with aclosing(app.follow("group/lobby")) as followed:
            assert (await anext(followed))["text"] == "hello"
    assert [event["text"] for event in events(server, "group/lobby")[before:]] == ["hello"]


@queue.task(bind=True, name="import_files")  # type: ignore[untyped-decorator]
def celery_task(self: Any, url: str, token: str, files: list[str]) -> str:
    with with_celery.task_job(self, publisher(url, token), user=42) as job:
        for file in job.steps(files):
            if file == "bad":
                raise ValueError(file)
    return job.stream


def rq_task(url: str, token: str, files: list[str]) -> str:
    with with_rq.task_job(publisher(url, token), user=42) as job:
        for _file in job.steps(files):
            pass
    return job.stream


def test_a_celery_task_is_a_job_of_its_name(server: Serving) -> None:
    stream = celery_task.apply(args=[*admin(server), FILES]).get()
    told = events(server, stream)
    assert [event["type"] for event in told] == STEPS
    assert (told[0]["name"], told[2]["percent"], told[2]["message"]) == ("import_files", 25, "1 of 4")
    assert told[-1]["outcome"] == "done"


def test_a_celery_task_that_fails_ends_its_job_as_failed(server: Serving) -> None:
    with pytest.raises(ValueError, match="bad"):
        celery_task.apply(args=[*admin(server), ["bad"]]).get()


def test_an_rq_job_is_a_job_of_its_function(server: Serving) -> None:
    redis = fakeredis.FakeStrictRedis()
    jobs = Queue(connection=redis)
    queued = jobs.enqueue(rq_task, *admin(server), FILES)
    SimpleWorker([jobs], connection=redis).work(burst=True)
    queued.refresh()  # type: ignore[no-untyped-call]
    stream = str(queued.return_value())
    assert [event["type"] for event in events(server, stream)] == STEPS
    assert queued.meta == {"percent": 100, "message": "4 of 4"}


def test_outside_of_a_worker_there_is_no_rq_job() -> None:
    with pytest.raises(HuahuoError, match="RQ worker"):
        with_rq.task_job(publisher("http://127.0.0.1:1", "t"))


def test_a_message_to_a_group_reaches_who_comes_later(server: Serving) -> None:
    at = group_send_from(publisher(*admin(server)), "lobby", {"type": "chat.message", "text": "hello"})
    assert at.stream == "group/lobby"
    [*_, event] = events(server, "group/lobby")
    assert (event["type"], event["text"]) == ("chat.message", "hello")
    with pytest.raises(Refused, match="type"):
        group_send_from(publisher(*admin(server)), "lobby", {"text": "hello"})
