"""The programs a user types, run as a user runs them."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serving import JWT_SECRET, MASTER_KEY, serving
from transport.client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def huahuo(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "huahuo", *words],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | environ,
        check=False,
    )


KEYS = {"HUAHUO_JWT_SECRET": JWT_SECRET, "HUAHUO_MASTER_KEY": MASTER_KEY}


def test_a_token_of_the_command_line_opens_the_service(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        made = huahuo(
            "token",
            "--data",
            str(server.data),
            "--user-id",
            "7",
            "--username",
            "eve",
            "--groups",
            "ops,dev",
            **KEYS,
        )

        async def groups() -> list[str]:
            async with asyncio.timeout(10), Client(server.url, token=made.stdout.strip()) as client:
                for group in ("ops", "dev"):
                    async with client.events(f"group/{group}") as events:
                        await events.ready()
                reply = await client.send("get_all_emails")
                return [reply["stream"]]

        assert asyncio.run(groups()) == ["user/7"]


def test_a_second_service_over_the_same_directory_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        second = huahuo("serve", "--data", str(server.data), "--port", "0", **KEYS)
        assert second.returncode == 1
        assert f"in use by process {server.pid}" in second.stderr
        assert "Traceback" not in second.stderr


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        second = huahuo("serve", "--data", str(tmp_path / "other"), "--port", str(server.port), **KEYS)
        assert second.returncode == 2
        assert f"cannot listen on 127.0.0.1:{server.port}" in second.stderr
        assert "Traceback" not in second.stderr


def test_sigterm_drains_and_ends_with_zero(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        assert server.stop() == 0
        assert not (server.data / "service.json").exists()


def test_a_setting_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    done = huahuo("serve", "--data", str(tmp_path), HUAHUO_PORT="many")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "huahuo: HUAHUO_PORT: port must be a whole number of at least 0 and at most 65535, not 'many'"
    ]


def test_tail_prints_events_as_they_are_in_the_log(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        token = server.token(1, "root", admin=True)

        async def publish() -> None:
            async with asyncio.timeout(10), Client(server.url, token=token) as client:
                for n in range(3):
                    await client.send("publish", stream="group/ops", type="tick", n=n)

        asyncio.run(publish())
        tail = subprocess.Popen(
            [sys.executable, "-m", "huahuo", "tail", server.url, "group/ops", "--after", "0", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"HUAHUO_TOKEN": token},
        )
        try:
            assert tail.stdout is not None
            lines = [json.loads(tail.stdout.readline()) for _ in range(3)]
        finally:
            tail.terminate()
            tail.communicate(timeout=10)
        assert [line["seq"] for line in lines] == [1, 2, 3]


@pytest.mark.parametrize("running", [True, False])
def test_revoke_ends_a_users_tokens_whether_a_service_runs_or_not(tmp_path: Path, running: bool) -> None:
    with serving(tmp_path / "data") as server:
        token = server.token(7, "eve")
        if not running:
            server.stop()
        done = huahuo("revoke", "--data", str(server.data), "--user-id", "7", **KEYS)
        assert (done.returncode, done.stdout) == (0, "revoked\n"), done.stderr
        if not running:
            server.start()

        async def refused() -> str:
            async with asyncio.timeout(10), Client(server.url, token=token) as client:
                return str((await client.wait_stopped()).code)

        assert asyncio.run(refused()) == "4503"


def test_doctor_finds_a_healthy_directory_healthy(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        running = huahuo("doctor", "--data", str(server.data), "--json", **KEYS)
        server.stop()
        port = {"HUAHUO_PORT": str(server.port)}
        stopped = huahuo("doctor", "--data", str(server.data), "--json", **KEYS, **port)
    for done in (running, stopped):
        assert done.returncode == 0, done.stdout
        assert "error" not in {finding["level"] for finding in json.loads(done.stdout)}


def test_doctor_finds_a_changed_log(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:

        async def publish() -> None:
            async with Client(server.url, token=server.token(1, "root", admin=True)) as client:
                await client.send("publish", stream="group/ops", type="tick", text="the original text")

        asyncio.run(publish())
        server.stop()
        database = server.data / "log.db"
        database.write_bytes(database.read_bytes().replace(b"the original text", b"the rewritten txt"))
        done = huahuo("doctor", "--data", str(server.data), **KEYS)
        assert done.returncode == 1
        assert "damaged at position" in done.stdout
