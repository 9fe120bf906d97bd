"""The stop of a process in which something hangs: its deadline holds, and a second signal ends it at once."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from huahuo.app import tokens
from huahuo.eventstore.ambient import SystemAmbient
from tests.support.servers.ports import held_port
from tests.support.servers.serving import JWT_SECRET, MASTER_KEY
from tests.support.servers.stuck_serve import send

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

AT_ONCE_S = 15.0
"""A process that waited would be there for `LONG_S`, or for ever."""
END_TIMEOUT_S = 30
LONG_S = 600.0


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
        token = tokens.mint(JWT_SECRET.encode(), SystemAmbient(), user_id=1, username="alice")
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
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(END_TIMEOUT_S) == 128 + number
        assert time.monotonic() - began < AT_ONCE_S
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
        began = time.monotonic()
        while times_asleep(process) == asleep:  # it handles the first signal, and sleeps on
            assert time.monotonic() - began < END_TIMEOUT_S
        # Another signal, as two equal ones may be delivered as one.
        to_thread(process, threads[-1] if receiver == "another thread" else process.pid, signal.SIGINT)
        assert process.wait(END_TIMEOUT_S) in (128 + signal.SIGTERM, 128 + signal.SIGINT)
        assert time.monotonic() - began < AT_ONCE_S


@pytest.mark.parametrize("action", ["ignore_cancellation", "leave_a_thread"])
def test_what_hangs_does_not_hold_a_stop_beyond_its_deadline(tmp_path: Path, action: str) -> None:
    with hanging(tmp_path / "data", action, drain_timeout_s=2) as process:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_TIMEOUT_S) == 0
        assert time.monotonic() - began < 2 + AT_ONCE_S


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
            assert process.wait(END_TIMEOUT_S) == 0
            assert "stopped_before_it_served" in line_of_stderr(process, "stopped")
        finally:
            process.kill()
            process.communicate()
