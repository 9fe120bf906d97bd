"""The stop of a process in which something hangs: its deadline holds, and a second signal ends it at once."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from huahuo.app import credentials
from huahuo.eventstore.ambient import SystemAmbient
from tests.support.patience import WITHIN_S, until
from tests.support.servers.ports import held_port
from tests.support.servers.serving import JWT_SECRET, MASTER_KEY
from tests.support.servers.stuck_serve import send

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LONG_S = 600.0
"""A process that waited would be there that long, or for ever: an end within `WITHIN_S` is at once."""


@contextmanager
def hanging(data: Path, action: str, drain_timeout_s: float = LONG_S) -> Iterator[subprocess.Popen[str]]:
    """A service in which the handler of `action` hangs (see `stuck_serve`)."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.support.servers.stuck_serve"),
            *("serve", "--data", str(data), "--port", "0"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HUAHUO_DRAIN_TIMEOUT_S": str(drain_timeout_s), "HUAHUO_JWT_SECRET": JWT_SECRET},
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[-1]
        token = credentials.mint(JWT_SECRET.encode(), SystemAmbient(), user_id=1, username="alice")
        asyncio.run(send(url, token, action, process.stdout))
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of_stderr(process: subprocess.Popen[str], part: str) -> str:
    """The first line with `part` in it."""
    assert process.stderr is not None
    for line in process.stderr:
        if part in line:
            return line
    raise AssertionError(f"no line with {part!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_drain_at_once_and_says_so(tmp_path: Path, number: signal.Signals) -> None:
    with hanging(tmp_path / "data", "ignore_cancellation") as process:
        process.send_signal(number)
        line_of_stderr(process, "draining")
        process.send_signal(number)
        assert process.wait(WITHIN_S) == 128 + number
        assert "second signal" in line_of_stderr(process, "at once")


def test_a_second_hangup_leaves_a_drain_to_go_on(tmp_path: Path) -> None:
    with hanging(tmp_path / "data", "ignore_cancellation") as process:
        process.send_signal(signal.SIGHUP)
        line_of_stderr(process, "draining")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 128 + signal.SIGTERM, "the hang-up did not end it"
        assert "second signal" in line_of_stderr(process, "at once")


def to_thread(process: subprocess.Popen[str], thread: int, number: signal.Signals) -> None:
    """Send a signal to one thread, as the system does when it chooses one for a signal to the process."""
    assert ctypes.CDLL(None).tgkill(process.pid, thread, number) == 0


def times_asleep(process: subprocess.Popen[str]) -> int:
    """How often the main thread went to sleep by itself."""
    status = Path(f"/proc/{process.pid}/task/{process.pid}/status").read_text(encoding="utf-8")
    return next(
        int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary_ctxt_switches")
    )


@pytest.mark.parametrize("receiver", ["main thread", "another thread"])
def test_a_second_signal_ends_also_a_service_whose_loop_is_blocked(tmp_path: Path, receiver: str) -> None:
    with hanging(tmp_path / "data", "block_the_loop") as process:
        threads = sorted(int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir())
        asleep = times_asleep(process)
        to_thread(process, process.pid, signal.SIGTERM)
        until(lambda: times_asleep(process) > asleep, lambda: "the first signal is handled, and it sleeps on")
        # Another signal, as two equal ones may be delivered as one.
        to_thread(process, threads[-1] if receiver == "another thread" else process.pid, signal.SIGINT)
        assert process.wait(WITHIN_S) in (128 + signal.SIGTERM, 128 + signal.SIGINT)


@pytest.mark.parametrize("action", ["ignore_cancellation", "leave_a_thread"])
def test_what_hangs_does_not_hold_a_stop_beyond_its_deadline(tmp_path: Path, action: str) -> None:
    with hanging(tmp_path / "data", action, drain_timeout_s=2) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0


def test_a_signal_ends_a_node_that_waits_for_its_ordered_log(tmp_path: Path) -> None:
    with held_port() as nobody:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "huahuo", "serve", "--data", str(tmp_path), "--port", "0"),
                *("--log", f"nats://127.0.0.1:{nobody}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"HUAHUO_MASTER_KEY": MASTER_KEY, "HUAHUO_JWT_SECRET": JWT_SECRET},
        )
        try:
            line_of_stderr(process, "waiting_for_the_ordered_log")
            process.send_signal(signal.SIGTERM)
            assert process.wait(WITHIN_S) == 0
            assert "stopped_before_it_served" in line_of_stderr(process, "stopped")
        finally:
            process.kill()
            process.communicate()
