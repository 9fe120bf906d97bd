"""SIGHUP, as of a terminal that closes: the service stops in order, unless it was started to ignore it."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.command_line import KEYS
from tests.support.drivers.rawclient import connected
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in found.split()]


def ignores_hangups(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    ignored = re.search(r"SigIgn:\s*([0-9a-f]+)", status)
    assert ignored is not None
    return bool(int(ignored[1], 16) >> (signal.SIGHUP - 1) & 1)


async def told_at_hangup(server: Serving) -> tuple[dict[str, object], int]:
    """What a client is told when all processes of the service are hung up on, and the exit code."""
    async with connected(server.url) as client:
        await client.authenticate(server.token(1, "alice"))
        for child in children_of(server.pid):
            os.kill(child, signal.SIGHUP)
        ending = asyncio.create_task(asyncio.to_thread(server.hang_up))
        told = await client.until("goaway")
        return told, await ending


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hangup_drains_the_service_as_sigterm_does(tmp_path: Path, workers: str) -> None:
    with serving(tmp_path / "data", HUAHUO_WORKERS=workers) as server:
        told, code = asyncio.run(told_at_hangup(server))
        assert told["code"] == CloseCode.DRAINING
        assert code == 0
        server.start()
        server.stop()
        assert "log_written_by_others" not in server.log()


def test_a_service_that_was_started_to_ignore_hangups_ignores_them(tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "huahuo", "serve", "--data", str(tmp_path), "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | KEYS,
    )
    try:
        assert process.stdout is not None
        assert "listening on" in process.stdout.readline()
        assert ignores_hangups(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0
    finally:
        process.kill()
        process.communicate()
