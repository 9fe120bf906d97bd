"""Starts a receiver and reads what it counts. The one in C where a compiler is, else the one in Python."""

import contextlib
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.clients.report import Counts, Report
from bench.clients.script import Script
from bench.harness import compiled
from bench.harness.procs import cpu_s, raise_files_max

SOURCE = Path(__file__).with_name("receiver.c")
IN_PYTHON = (sys.executable, "-m", "bench.clients.receiver")
_POLL_S = 0.002


def build(directory: Path) -> list[str]:
    """The command of the best receiver that this machine can have; `directory` keeps a compiled one."""
    program = compiled.build(SOURCE, directory)
    return [str(program)] if program is not None else list(IN_PYTHON)


class Receiving(ABC):
    """What one receiver process, or several of them together, tell."""

    size: int
    """How many connections."""

    @abstractmethod
    def value(self, field: str) -> int:
        """A figure of now, see `report.FIELDS`."""

    @abstractmethod
    def counts(self) -> Counts:
        """All figures of now."""

    @abstractmethod
    def cpu_s(self) -> float:
        """Processor seconds so far."""

    @abstractmethod
    def ended(self) -> bool:
        """Whether a process is gone."""

    def until(self, field: str, at_least: int, timeout_s: float) -> bool:
        """Wait until a figure has grown so far; False if it did not in time."""
        deadline_s = time.monotonic() + timeout_s
        while self.value(field) < at_least:
            if time.monotonic() > deadline_s or self.ended():
                return False
            time.sleep(_POLL_S)
        return True

    def ready(self, timeout_s: float = 60) -> None:
        """Wait until every connection is open.

        Raises:
            TimeoutError: some are not.
        """
        if not self.until("ready", self.size, timeout_s):
            raise TimeoutError(
                f"{self.value('ready')} of {self.size} connections ready, {self.value('closed')} closed"
            )


class Receivers(Receiving):
    """One receiver process. Use as a context manager: on leaving, all its connections are gone."""

    def __init__(self, script: Script, folder: Path, *, command: list[str], deaf: int = 0) -> None:
        self.size = len(script.clients)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".script", delete=False) as file:
            path = Path(file.name)
        script.write(path)
        report = path.with_suffix(".report")
        self.report = Report(report, self.size)
        self._process = subprocess.Popen(
            [*command, str(path), str(report), f"deaf={deaf}"],
            stdin=subprocess.PIPE,
            preexec_fn=raise_files_max,  # noqa: PLW1509  no threads yet
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it. Idempotent."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(b"\n")
                self._process.stdin.close()
            self._process.wait(20)
            self.report.close()

    def value(self, field: str) -> int:
        """See `Receiving`."""
        return self.report.value(field)

    def counts(self) -> Counts:
        """See `Receiving`."""
        return self.report.counts()

    def cpu_s(self) -> float:
        """See `Receiving`."""
        return cpu_s([self.pid])

    def ended(self) -> bool:
        """See `Receiving`."""
        return self._process.poll() is not None
