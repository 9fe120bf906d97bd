"""Starts `log_child` in a process of its own, hears what it prints, and opens the files it leaves."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.sqlite.log import SqliteLog
from tests.support.patience import WITHIN_S
from tests.support.worlds.logs import MASTER_KEY

ROOT = Path(__file__).resolve().parents[3]


def command_line(directory: Path, *words: object) -> list[str]:
    return [sys.executable, "-m", "tests.support.drivers.log_child", str(directory), *map(str, words)]


@contextmanager
def child(directory: Path, *words: object, under: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A running child; at the end it is killed with its whole process group."""
    process = subprocess.Popen(
        [*under, *command_line(directory, *words)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(WITHIN_S)
        assert process.stdout is not None
        process.stdout.close()


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:  # noqa: UP028  `yield from` would close the pipe with the generator
        yield line


async def opened(directory: Path) -> SqliteLog:
    return await SqliteLog.open(directory, ambient=SystemAmbient(), master_key=MASTER_KEY, build="parent")
