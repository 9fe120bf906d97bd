"""`huahuo demo`, as `make demo` starts it: a link that signs in, mailboxes checked, mail that comes."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from huahuo.transport.client.client import Client
from tests.support.drivers.command_line import KEYS, huahuo
from tests.support.drivers.http import ask
from tests.support.models.firemail_database import FireMailDatabase
from tests.support.patience import ALL_WITHIN_S, WITHIN_S
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def link_of(demo: subprocess.Popen[str]) -> tuple[str, str]:
    """(URL, token) of the line that a person would click."""
    assert demo.stdout is not None
    for line in demo.stdout:
        if "#token=" in line:
            url, _, token = line.split()[-1].partition("/#token=")
            return url, token
    raise AssertionError("the demo printed no link")


async def watch(url: str, token: str) -> tuple[dict[str, dict[str, Any]], int]:
    """The mailboxes once each has been checked, and how many mails came after that."""
    async with (
        asyncio.timeout(ALL_WITHIN_S),
        Client(url, token=token) as client,
        client.events("user/1", after="start") as events,
    ):
        rows: dict[str, dict[str, Any]] = {}
        arrived = 0
        async for event in events:
            if not rows and event.type == "email_status_update":
                found = {row["email"]: row for row in (await client.send("get_all_emails"))["data"]}
                if all(row["status"] in ("ok", "error", "need_reauth") for row in found.values()):
                    rows = found
                    checked_until = (await client.send("get_all_emails"))["seq"]
            if rows and event.type == "mail_received" and event.seq > checked_until:
                arrived += 1
                break
        return rows, arrived


async def test_the_demo_shows_mail_arriving_and_each_kind_of_failure() -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "huahuo", "demo", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        rows, arrived = await watch(*link_of(demo))
    finally:
        demo.terminate()
        code = demo.wait(timeout=WITHIN_S)
        assert demo.stdout is not None
        demo.stdout.close()
    assert rows["alice@demo.example"]["mail_count"] >= 24
    assert rows["wrong-password@demo.example"]["status"] == "need_reauth"
    assert rows["unreachable@demo.example"]["status"] == "error"
    assert arrived == 1
    assert code == 0


def test_the_port_of_the_environment_counts_and_no_other_is_taken_for_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = huahuo("demo", HUAHUO_PORT=port)
    assert done.returncode == 2
    assert port in done.stderr


MAIL_SERVER = """
import asyncio, pathlib, sys
from huahuo.demo.demo import SampleMailServer
from huahuo.eventstore.ambient import SystemAmbient

async def main():
    async with SampleMailServer(pathlib.Path(sys.argv[1]), SystemAmbient()) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_its_mail_server_ends_also_when_the_demo_is_killed(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-c", MAIL_SERVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert demo.stdout is not None
        with socket.create_connection(("127.0.0.1", int(demo.stdout.readline())), WITHIN_S) as link:
            assert link.recv(4) == b"* OK"
            demo.kill()
            while link.recv(4096):  # until the server's end of the connection is closed
                pass
    finally:
        demo.kill()
        demo.communicate()


EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_an_example_whose_port_is_taken_says_so_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # if somebody else has it, it is taken all the same
            other.bind(("127.0.0.1", 8000))
            other.listen()
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "jobs" / "jobs.py")],
            cwd=tmp_path,
            env=os.environ | {"HUAHUO_PORT": "0"},
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert "ports 8000 and 8765 must be free, so end the other example or program first" in line


def test_the_examples_with_a_page_end_alike() -> None:
    ends = {
        (EXAMPLES / name / f"{name}.py").read_text(encoding="utf-8").partition("__main__")[2]
        for name in ("jobs", "chat", "fleet")
    }
    assert len(ends) == 1


def test_a_database_and_a_front_end_come_over(tmp_path: Path) -> None:
    database = FireMailDatabase(tmp_path / "huohuo_email.db")
    root = database.user("root", "old-secret", is_admin=1)
    database.mail(database.mailbox(root, "a@example.com"), "hello")
    database.close()
    data, ui = tmp_path / "data", tmp_path / "ui"
    done = huahuo("import-firemail", str(database.file), "--data", str(data), **KEYS)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[:3]
    assert first == [
        f"{kind}: 1 added, 0 there already, 0 left out" for kind in ("users", "mailboxes", "mails")
    ]
    ui.mkdir()
    (ui / "index.html").write_text("<p>theirs</p>")
    with serving(data, HUAHUO_CLASSIC_UI=str(ui)) as server:
        busy = huahuo("import-firemail", str(database.file), "--data", str(data), **KEYS)
        assert busy.returncode != 0
        assert "in use" in busy.stderr
        assert ask(f"{server.url}/emails/1").text == "<p>theirs</p>"
        account = {"username": "root", "password": "old-secret"}
        assert ask(f"{server.url}/api/auth/login", json=account).json()["user"]["is_admin"] == 1
    missing = huahuo("import-firemail", str(tmp_path / "none.db"), "--data", str(tmp_path / "new"), **KEYS)
    assert missing.returncode != 0
    assert "there is no file" in missing.stderr
    assert "Traceback" not in missing.stderr
