"""Programs that run a few at a time, and how far each is. For scripts/suite.py and scripts/check_all.py."""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

LOOK_S = 0.2
SAY_S = 30.0
"""How often a line says how far it is, where there is no terminal on which one line can change."""


class Work(NamedTuple):
    """A program of a lane."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


def pytest(python: str, name: str, words: Sequence[str], measured: Sequence[str] = ()) -> list[str]:
    """The command that runs pytest with these words and tells a lane what happens.

    `PROGRESS` stands for the file that the lane reads; `measured` are the words of coverage, if it measures.
    """
    return [
        *(python, *measured, "-m", "pytest", "-p", "tests.support.progress", f"--progress={PROGRESS}"),
        *("-o", f"cache_dir=.pytest_cache/{name.replace(' ', '-')}"),
        f"--color={'yes' if sys.stdout.isatty() else 'no'}",
        *words,
    ]


PROGRESS = "{progress}"
CUT_SHORT = 1
"""The code of a lane whose process ended well before its tests did, as after `os._exit(0)`."""


class Lane:
    """One process, and what it did so far."""

    def __init__(self, work: Work, notes: Path, root: Path) -> None:
        self.name = work.name
        self.began_s = time.monotonic()
        self.took_s = 0.0
        self.code: int | None = None
        self.count = self.done = 0
        self.failed: list[str] = []
        self.absent: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self._output = notes / f"{work.name}.output"
        progress = notes / f"{work.name}.progress"
        progress.touch()
        self._progress = progress.open("rb")
        self._part = b""
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  the caller is who types the options
                [word.replace(PROGRESS, str(progress)) for word in work.command],
                cwd=root,
                env=work.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def look(self) -> list[str]:
        """Read what happened since the last look; the tests that failed since then."""
        if self.code is None and (code := self._process.poll()) is not None:
            self.code, self.took_s = code, time.monotonic() - self.began_s
        known = len(self.failed)
        *lines, self._part = (self._part + self._progress.read()).split(b"\n")
        for line in lines:  # each whole: a reader may see the first bytes of one that is being written
            what, _, rest = line.decode("utf-8").partition(" ")
            if what == "collected":
                self.count = int(rest)
            elif what == "done":
                self.done += 1
            elif what == "failed":
                self.failed.append(rest)
            elif what == "absent":
                self.absent.append(rest)
            else:
                self.outcomes.update(json.loads(rest))
        if self.code == 0 and (not self.outcomes or self.done < self.count):
            self.code = CUT_SHORT
            self.failed.append(f"the process of {self.name} ended in the midst of its tests")
        return self.failed[known:]

    def stop(self) -> None:
        """As Ctrl-C: pytest ends with its summary."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Wait for the process, and close what was open."""
        self._process.wait()
        self._progress.close()

    def said(self) -> str:
        """The output of pytest."""
        return self._output.read_text(encoding="utf-8", errors="replace")


class Screen:
    """Where the progress is shown: one line that changes, or a line now and then."""

    def __init__(self, title: str, *, names: bool = False) -> None:
        self._title, self._names = title, names
        self._terminal = sys.stdout.isatty()
        self._began_s = time.monotonic()
        self._said_s = self._began_s

    @property
    def took_s(self) -> float:
        """How long the suite has run."""
        return time.monotonic() - self._began_s

    def show(self, lanes: Sequence[Lane], waiting: int) -> None:
        """How far the lanes are that run, and how many have not begun."""
        now_s = time.monotonic()
        if not self._terminal and now_s - self._said_s < SAY_S:
            return
        self._said_s = now_s
        parts = [f"{lane.name} {lane.done}/{lane.count or '?'}" for lane in lanes if lane.code is None]
        if waiting:
            parts.append(f"{waiting} more")
        line = f"{self._title}: {clock(self.took_s)}  {'  '.join(parts)}"
        if failed := sum(len(lane.failed) for lane in lanes):
            line += f"  {failed} failed"
        if self._terminal:
            sys.stdout.write(f"\r\033[K{line}")
            sys.stdout.flush()
        else:
            self.say(line)

    def failed(self, lane: Lane, test: str) -> None:
        """Name a test as soon as it has failed."""
        self.say(f"{self._title}: failed: {test}" + (f" ({lane.name})" if self._names else ""))

    def say(self, text: str) -> None:
        """Lines that stay."""
        sys.stdout.write(f"\r\033[K{text}\n" if self._terminal else f"{text}\n")
        sys.stdout.flush()


def run_all(
    works: Sequence[Work],
    at_once: int,
    screen: Screen,
    root: Path,
    ended: Callable[[Lane], None],
    *,
    stop_at_failure: bool = False,
) -> list[Lane]:
    """Run `at_once` of these at a time, in their order, and call `ended` for each as soon as it ends."""
    # A shell's background job ignores SIGINT, and its lanes would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="lanes-") as notes, contextlib.ExitStack() as stack:
        waiting = deque(works)
        started: list[Lane] = []
        running: list[Lane] = []
        while running or waiting:
            while waiting and len(running) < at_once:
                lane = Lane(waiting.popleft(), Path(notes), root)
                stack.callback(lane.end)
                stack.callback(lane.stop)
                started.append(lane)
                running.append(lane)
            for lane in list(running):
                for test in lane.look():
                    screen.failed(lane, test)
                    if stop_at_failure:
                        waiting.clear()
                        for other in running:
                            other.stop()
                if lane.code is not None:
                    running.remove(lane)
                    ended(lane)
            screen.show(started, len(waiting))
            time.sleep(LOOK_S)
    return started


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
