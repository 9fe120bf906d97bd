"""`Publisher` and `huahuo publish` against the real service: threads, forks, kills, refusals, deadlines."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from huahuo import JobCancelled, Publisher, Refused, Unknown
from huahuo.actors.plugins.calls import Principal
from huahuo.at import At
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.access.tokens import Authenticator
from tests.support.chaos.__main__ import ahead_by
from tests.support.drivers.command_line import huahuo
from tests.support.drivers.http import ask
from tests.support.patience import until
from tests.support.servers.serving import JWT_SECRET, Serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


STREAM = "user/42"


def publisher(server: Serving, timeout_s: float = 30) -> Publisher:
    return Publisher(server.url, server.token(1, "root", admin=True), timeout_s)


def events(server: Serving, stream: str = STREAM, after: int = 0) -> list[dict[str, object]]:
    url = f"{server.url}/streams/{stream}?limit=1000&after={after}"
    return list(ask(url, server.token(1, "root", admin=True)).json()["events"])


def test_one_event_or_many_are_published_and_their_place_is_told(server: Serving) -> None:
    mine = publisher(server)
    assert mine.publish(STREAM, "parcel_seen", {"order_id": 7}) == At(STREAM, 1)
    assert mine.publish_many([(STREAM, "a", {}), ("group/ops", "b", {"n": 1})]) == At("group/ops", 1)
    assert [event["type"] for event in events(server)] == ["parcel_seen", "a"]
    assert mine.publish(STREAM, "once", command_id="k") == mine.publish(STREAM, "once", command_id="k")
    assert len(events(server)) == 3


def test_a_refusal_has_its_code_and_had_no_effect(server: Serving) -> None:
    with pytest.raises(Refused) as refused:
        publisher(server).publish(STREAM, "order_placed", {"seq": 1})
    assert refused.value.code == "invalid_field"
    with pytest.raises(Refused) as refused:
        Publisher(server.url, server.token(42, "alice")).publish(STREAM, "a")
    assert refused.value.code == "forbidden"
    with pytest.raises(Refused, match="token_invalid: the token"):  # English, as all exceptions
        Publisher(server.url, "no token").publish(STREAM, "a")
    with pytest.raises(Refused) as refused:
        publisher(server).send("no_such_action")
    assert refused.value.code == "unknown_action"
    assert events(server) == []


def test_a_command_is_sent_and_its_reply_returned(server: Serving) -> None:
    reply = publisher(server).send("get_clients")
    assert reply["type"] == "clients"


def test_threads_share_a_publisher(server: Serving) -> None:
    mine = publisher(server)
    with ThreadPoolExecutor(8) as threads:
        places = list(threads.map(lambda n: mine.publish(STREAM, "n", {"n": n}), range(80)))
    assert sorted(at.seq for at in places) == list(range(1, 81))


def test_a_forked_child_has_a_connection_of_its_own(server: Serving) -> None:
    mine = publisher(server)
    mine.publish(STREAM, "parent")
    children = []
    for number in range(3):
        child = os.fork()
        if not child:
            try:
                for _ in range(10):
                    mine.publish(STREAM, "child", {"n": number})
                os._exit(0)
            except BaseException:  # noqa: BLE001  a child must not go on into the test
                os._exit(1)
        children.append(child)
    for _ in range(10):
        mine.publish(STREAM, "parent")
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert len(events(server)) == 41


def test_over_kills_of_the_service_each_event_is_written_once(server: Serving) -> None:
    mine = publisher(server, timeout_s=60)
    done, told = threading.Event(), threading.Semaphore(0)

    def kill() -> None:
        for _ in range(2):
            for _ in range(20):
                told.acquire()
            server.kill()
            server.start()
        done.set()

    killing = threading.Thread(target=kill)
    killing.start()
    sent = 0
    while not done.is_set():
        mine.publish(STREAM, "n", {"n": sent})
        sent += 1
        told.release()
    killing.join()
    assert mine.publish(STREAM, "n", {"n": sent}).seq == sent + 1
    newest = [event["n"] for event in events(server, after=max(0, sent + 1 - 1000))]
    assert newest == list(range(max(0, sent + 1 - 1000), sent + 1))


def test_a_service_that_is_not_there_is_said_at_once_and_after_the_deadline(
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher = Publisher("http://user:secret@127.0.0.1:9", "token", timeout_s=4)
    with pytest.raises(Unknown, match=r"after 4 s nobody has answered at http://127\.0\.0\.1:9: ") as unknown:
        publisher.publish(STREAM, "a")
    assert "nothing was sent (command id" in str(unknown.value)
    with pytest.raises(Unknown):
        publisher.publish(STREAM, "a")
    [line] = [record.getMessage() for record in caplog.records if record.name == "huahuo.publisher"]
    assert line.startswith("http://127.0.0.1:9: ConnectionRefusedError")
    assert "trying again, for 4 s in all" in line, "one line, as long as it is away"


def test_a_service_that_took_a_request_and_said_nothing_leaves_an_unknown_outcome() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unknown, match=r"unknown after 0\.2 s whether /publish took effect.*\(command id"):
            Publisher(address, "token", timeout_s=0.2).publish(STREAM, "a")


def test_a_token_that_ended_is_asked_for_again(server: Serving) -> None:
    hour_ago_ms = SystemAmbient().now_ms() - 3_600_000
    admin = Principal(1, "root", is_admin=True)
    ended = Authenticator(JWT_SECRET.encode()).mint(admin, now_ms=hour_ago_ms, ttl_s=60, jti="")
    tokens = [server.token(1, "root", admin=True), ended]
    mine = Publisher(server.url, tokens.pop)
    assert mine.publish(STREAM, "a") == At(STREAM, 1)


def test_the_lines_of_the_page_run_as_they_stand_there(
    server: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "http.md").read_text()
    lines = page.split("<!-- publisher: first -->\n```python\n")[1].split("```")[0]
    exec(lines.replace("http://127.0.0.1:8765", server.url), {"token": server.token(1, "root", admin=True)})
    assert capsys.readouterr().out == f"{STREAM} 1\n"


def test_a_shell_publishes_with_the_directory_or_with_an_address_and_a_token(server: Serving) -> None:
    by_data = huahuo(
        "publish", STREAM, "seen", "order_id=7", "who=bob", "--data", str(server.data), **server.environ
    )
    assert (by_data.returncode, by_data.stdout) == (0, f"{STREAM} 1\n"), by_data.stderr
    token = server.token(1, "root", admin=True)
    by_url = huahuo("publish", STREAM, "seen", "--url", server.url, "--key", "k", HUAHUO_TOKEN=token)
    assert (by_url.returncode, by_url.stdout) == (0, f"{STREAM} 2\n"), by_url.stderr
    words = ("publish", STREAM, "seen", "--url", server.url, "--data", str(server.data))
    other_key = huahuo(*words, HUAHUO_JWT_SECRET="another secret of 32 bytes and more")
    assert f"It was signed with the key of {server.data}, or of HUAHUO_JWT_SECRET" in other_key.stderr
    refused = huahuo("publish", "auth", "seen", "--url", server.url, HUAHUO_TOKEN=token)
    assert refused.returncode != 0
    assert "the service refused: invalid_field" in refused.stderr
    assert [event.get("order_id") for event in events(server)] == [7, None]


def test_a_machine_whose_clock_differs_is_told_that_and_not_that_its_key_is_wrong(server: Serving) -> None:
    told = r"by this machine's clock, which is \d+ s {} that of {}: set the clocks by NTP, or give --token"
    ways = {
        "publish": ("publish", STREAM, "seen", "--url", server.url, "--data", str(server.data)),
        "tail": ("tail", server.url, STREAM, "--data", str(server.data)),
        "clients": ("clients", "--data", str(server.data)),
    }
    for way, words in ways.items():
        ahead = huahuo(*words, **server.environ, **ahead_by(3600))
        assert ahead.returncode == 1, way
        assert re.search(told.format("ahead of", server.url), ahead.stderr), (way, ahead.stderr)
        assert "key" not in ahead.stderr, way
    behind = huahuo(*ways["publish"], **server.environ, **ahead_by(-7200))
    assert re.search(told.format("behind", server.url), behind.stderr), behind.stderr


WORKER = """
import sys, time
from huahuo import Publisher
with Publisher(sys.argv[1], sys.argv[2]).job("import", user=42, lease_s=3) as job:
    job.progress(10)
    print(job.id, flush=True)
    sys.stdin.read()
"""


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
