"""The embedding API: in one process with other code, called from any thread."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from huahuo import HuahuoError, NotRunning, Service
from huahuo.embedding.service_thread import Bridge
from huahuo.mailcheck import mail
from huahuo.transport.client.client import Client
from huahuo.transport.server.hub import Clients
from tests.support.drivers.http import ask
from tests.support.models.history import Seen, checks_end_once
from tests.support.patience import WITHIN_S
from tests.support.servers import stuck_serve

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_log_lines() -> Iterator[None]:
    """A service sets up structlog for its process; other tests shall not see that."""
    yield
    structlog.reset_defaults()


def test_an_application_that_uses_structlog_keeps_its_own_set_up(tmp_path: Path) -> None:
    mine = [structlog.processors.KeyValueRenderer()]
    structlog.configure(processors=mine)
    with Service(data=tmp_path / "data", port=0, environ={}):
        assert structlog.get_config()["processors"] == mine


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(data=tmp_path / "data", port=0, environ={}, log_level="error", plugins=[mail()]) as running:
        yield running


def read(service: Service, stream: str, *, admin: bool = False) -> list[tuple[int, dict[str, Any]]]:
    """The whole stream as a client sees it."""

    async def follow() -> list[tuple[int, dict[str, Any]]]:
        token = service.token(1, "alice", admin=admin, groups=("ops",))
        found: list[tuple[int, dict[str, Any]]] = []
        async with (
            asyncio.timeout(WITHIN_S),
            Client(service.url, token=token) as client,
            client.events(stream, after="start") as events,
        ):
            outcome = await events.ready()
            async for event in events:
                found.append((event.seq, event.data))
                if event.seq >= outcome.head:
                    break
        return found

    return asyncio.run(follow())


def add_mailbox(service: Service) -> int:
    async def add() -> int:
        async with (
            asyncio.timeout(WITHIN_S),
            Client(service.url, token=service.token(1, "alice")) as client,
        ):
            reply = await client.send(
                "add_email", email="a@b.example", password="x", mail_type="imap", server="b.example"
            )
            return int(reply["email_id"])

    return asyncio.run(add())


def test_a_report_returns_the_position_at_which_it_is_durable(service: Service) -> None:
    email_id = add_mailbox(service)
    positions = [
        service.update_email_status(email_id, "processing", "正在处理"),
        service.progress(email_id, 75, "正在检查邮件 15/20"),
        service.update_email_status(email_id, "ok", "done"),
    ]
    assert positions == sorted(set(positions))
    seen = read(service, "log", admin=True)
    at = dict(seen)
    assert at[positions[1]]["progress"] == 75
    assert at[positions[2]]["status"] == "ok"


def test_reports_make_one_check_that_ends_once(service: Service) -> None:
    email_id = add_mailbox(service)
    service.update_email_status(email_id, "processing")
    service.progress(email_id, 60)
    service.progress(email_id, 40)
    service.update_email_status(email_id, "error", "no")
    log = [
        Seen(seq, body["type"], msgspec.json.encode(body).decode()) for seq, body in read(service, "user/1")
    ]
    assert checks_end_once(log) is None


def test_many_threads_publish_and_every_event_is_there_once(service: Service) -> None:
    def work(name: int) -> None:
        for n in range(25):
            service.publish("group/ops", "tick", {"nonce": f"{name}-{n}"})

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    nonces = [body["nonce"] for _, body in read(service, "group/ops")]
    assert len(nonces) == 200
    assert len(set(nonces)) == 200
    for name in range(8):  # each thread's own order is kept
        assert [n for n in nonces if n.startswith(f"{name}-")] == [f"{name}-{n}" for n in range(25)]


def test_a_notification_reaches_everybody(service: Service) -> None:
    service.notify("系统将在5分钟后进行维护", level="warning")
    (event,) = [body for _, body in read(service, "system")]
    assert (event["message"], event["level"]) == ("系统将在5分钟后进行维护", "warning")


def test_what_is_refused_says_why(service: Service) -> None:
    with pytest.raises(HuahuoError, match="no mailbox 999"):
        service.update_email_status(999, "processing")
    with pytest.raises(HuahuoError, match="status"):
        service.update_email_status(1, "dancing")  # type: ignore[arg-type]
    with pytest.raises(HuahuoError):
        service.publish("mailbox/1", "x")
    with pytest.raises(HuahuoError):
        service.notify("x", level="loud")


def test_a_service_that_does_not_run_says_so(tmp_path: Path) -> None:
    service = Service(data=tmp_path / "data", port=0, environ={}, log_level="error")
    with pytest.raises(NotRunning, match="start"):
        service.notify("x")
    service.start()
    service.stop()
    service.stop()
    with pytest.raises(NotRunning):
        service.notify("x")


def test_seen_may_wait_longer_than_a_call_may_take(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    given_s: list[float] = []
    call = Bridge.call

    def noted(self: Bridge, factory: Callable[[], Coroutine[Any, Any, object]], timeout_s: float) -> object:
        given_s.append(timeout_s)
        return call(self, factory, timeout_s)

    monkeypatch.setattr("huahuo.embedding.service_thread._CALL_TIMEOUT_S", WITHIN_S)
    monkeypatch.setattr(Bridge, "call", noted)
    assert not service.seen("user/1", 1, client="nobody", timeout_s=0.4)
    assert given_s == [WITHIN_S + 0.4]


def test_it_starts_again_where_it_was(tmp_path: Path) -> None:
    service = Service(data=tmp_path / "data", port=0, environ={}, log_level="error")
    service.start()
    before = service.publish("group/ops", "tick")
    service.stop()
    service.start()
    assert service.publish("group/ops", "tick") == before + 1
    service.stop()


def test_a_stop_leaves_no_thread_of_the_service_though_a_handler_ignores_its_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clients, "__init__", stuck_serve.make)
    service = Service(data=tmp_path / "data", port=0, environ={}, log_level="error")
    service.start()
    asyncio.run(stuck_serve.send(service.url, service.token(1, "alice"), "ignore_cancellation"))
    # Time enough to close the log on a slow disk, and then for the end of the thread.
    monkeypatch.setattr("huahuo.embedding.service_thread._DRAIN_SHARE", 0.2)
    service.stop(timeout_s=WITHIN_S)
    assert not [thread for thread in threading.enumerate() if thread.name == "huahuo"]
    service.start()
    assert service.notify("again") > 0
    service.stop()


def test_two_services_over_one_directory_are_refused(service: Service, tmp_path: Path) -> None:
    second = Service(data=tmp_path / "data", port=0, environ={}, log_level="error")
    with pytest.raises(HuahuoError, match="in use"):
        second.start()
    assert service.notify("still here") > 0


def test_the_flask_example_reports_from_its_request_threads(tmp_path: Path) -> None:
    environ = os.environ | {"HUAHUO_DATA": str(tmp_path / "data"), "HUAHUO_PORT": "0", "FLASK_PORT": "0"}
    flask = subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "flask_app.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        cwd=tmp_path,
    )
    try:
        assert flask.stdout is not None
        assert flask.stderr is not None
        huahuo_url = flask.stdout.readline().rsplit(" ", 1)[1].strip()
        line = ""
        while "Running on" not in line:
            line = flask.stderr.readline()
            assert line, "Flask ended"
        url = line.rsplit(" ", 1)[1].strip()
        answers = [ask(f"{url}/orders/{n}/pack", json={}).json() for n in (17, 18)]
        assert answers[0]["position"] < answers[1]["position"]
        assert "no mailbox 5" in ask(f"{url}/emails/5/status", json={"status": "processing"}).json()["error"]
        assert [event["order_id"] for event in group_events(huahuo_url, tmp_path / "data")] == [17, 18]
    finally:
        flask.terminate()
        flask.communicate(timeout=WITHIN_S)


def group_events(url: str, data: Path) -> list[dict[str, Any]]:
    """What a member of `ops` reads."""
    token = Service(data=data, environ={}).token(1, "alice", groups=("ops",))

    async def follow() -> list[dict[str, Any]]:
        async with (
            asyncio.timeout(WITHIN_S),
            Client(url, token=token) as client,
            client.events("group/ops", after="start") as events,
        ):
            return [(await anext(events)).data for _ in range(2)]

    return asyncio.run(follow())


FORK = """
import os, sys
from huahuo import NotRunning, Service
service = Service(sys.argv[1], host=sys.argv[2], port=0, plugins=[])
service.start()
child = os.fork()
if child == 0:
    try:
        service.publish("user/42", "seen", {})
    except NotRunning:
        sys.exit(0)
    sys.exit("a fork has called the service")
os.waitpid(child, 0)[1] and sys.exit("the fork has crashed")
service.publish("user/42", "seen", {})
service.stop()
"""


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_process_that_was_forked_from_a_service_is_refused_and_ends_as_it_should(
    tmp_path: Path, host: str
) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path), host],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
