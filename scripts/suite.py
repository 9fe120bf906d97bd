"""Runs the suite as pytest processes, four at a time, and sums them up. For make test and make check-all.

    .venv/bin/python scripts/suite.py                   every test
    .venv/bin/python scripts/suite.py -m "not slow"     each process gets the options

It shows how far each lane is, names a test as soon as it fails, and prints what pytest said when a lane ends.
If you name files, or give an option that needs the terminal or a file to write, pytest runs in one process.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LANES = {
    "browser a": ("browser/test_c*",),
    "unit": ("architecture", "unit"),
    "e2e a": ("e2e/test_[a-b]*",),
    "integration": ("contract", "integration"),
    "simulation": ("simulation",),
    "e2e r": ("e2e/test_[q-z]*",),
    "e2e c": ("e2e/test_c*",),
    "browser f": ("browser/test_[a-bd-z]*",),
    "e2e d": ("e2e/test_[d-f]*",),
    "e2e p": ("e2e/test_p*",),
    "property": ("property",),
    "crash": ("crash",),
    "e2e g": ("e2e/test_[g-o]*",),
}
"""Folders and files of `tests`, by lane: fixed, so that a test has the same neighbours in each run.

Lanes begin in this order, the long ones first, each as soon as one before it has ended.
"""
AT_ONCE = 4
"""Lanes that run at a time. Most of them wait for programs, disks and pages: two cores have room for four."""
ALONE = {
    "--basetemp",
    "--capture",
    "--co",
    "--collect-only",
    "--fixtures",
    "--help",
    "--junit-xml",
    "--junitxml",
}
ALONE |= {"--markers", "--pdb", "--trace", "--version", "-V", "-h", "-s"}
STOPPING = {"-x", "--exitfirst"}
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
"""Bytecode is kept, so that pytest rewrites the tests' assertions only once."""
NO_TESTS = 5
"""pytest's exit code when no test was chosen, as when all that `-k` names are in another lane."""
LOOK_S = 0.2
SAY_S = 30.0
"""How often a line says how far it is, where there is no terminal on which one line can change."""


def paths(lane: Sequence[str], root: Path = ROOT) -> list[str]:
    """The folders and files of a lane, for pytest."""
    found = sorted(path for pattern in lane for path in (root / "tests").glob(pattern))
    return [str(path.relative_to(root)) for path in found]


class Lane:
    """One pytest process, and what it did so far."""

    def __init__(
        self, name: str, folders: Sequence[str], options: Sequence[str], notes: Path, root: Path
    ) -> None:
        self.name = name
        self.began_s = time.monotonic()
        self.took_s = 0.0
        self.code: int | None = None
        self.count = self.done = 0
        self.failed: list[str] = []
        self.absent: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self._output = notes / f"{name}.output"
        progress = notes / f"{name}.progress"
        progress.touch()
        self._progress = progress.open(encoding="utf-8")
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  the caller is who types the options
                [
                    *(
                        sys.executable,
                        "-m",
                        "pytest",
                        "-p",
                        "tests.support.progress",
                        f"--progress={progress}",
                    ),
                    *(
                        "-o",
                        f"cache_dir=.pytest_cache/{name.replace(' ', '-')}",
                        f"--color={'yes' if sys.stdout.isatty() else 'no'}",
                    ),
                    *options,
                    *paths(folders, root),
                ],
                cwd=root,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def look(self) -> list[str]:
        """Read what happened since the last look; the tests that failed since then."""
        if self.code is None and (code := self._process.poll()) is not None:
            self.code, self.took_s = code, time.monotonic() - self.began_s
        known = len(self.failed)
        for line in self._progress:
            what, _, rest = line.rstrip("\n").partition(" ")
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

    def __init__(self) -> None:
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
        line = f"suite: {_clock(self.took_s)}  {'  '.join(parts)}"
        if failed := sum(len(lane.failed) for lane in lanes):
            line += f"  {failed} failed"
        if self._terminal:
            sys.stdout.write(f"\r\033[K{line}")
            sys.stdout.flush()
        else:
            self.say(line)

    def say(self, text: str) -> None:
        """Lines that stay."""
        sys.stdout.write(f"\r\033[K{text}\n" if self._terminal else f"{text}\n")
        sys.stdout.flush()


def run(lanes: Mapping[str, Sequence[str]], options: Sequence[str], root: Path = ROOT) -> int:
    """Run all lanes; the exit code."""
    # A shell's background job ignores SIGINT, and its lanes would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    screen = Screen()
    with tempfile.TemporaryDirectory(prefix="suite-") as notes, contextlib.ExitStack() as stack:
        waiting = deque(lanes.items())
        started: list[Lane] = []
        running: list[Lane] = []
        while running or waiting:
            while waiting and len(running) < AT_ONCE:
                name, folders = waiting.popleft()
                lane = Lane(name, folders, options, Path(notes), root)
                stack.callback(lane.end)
                stack.callback(lane.stop)
                started.append(lane)
                running.append(lane)
            for lane in list(running):
                for test in lane.look():
                    screen.say(f"suite: failed: {test}")
                    if STOPPING & set(options):
                        waiting.clear()
                        for other in running:
                            other.stop()
                if lane.code is not None:
                    running.remove(lane)
                    screen.say(f"\n===== lane {lane.name} =====\n{lane.said()}")
            screen.show(started, len(waiting))
            time.sleep(LOOK_S)
    for what in sorted({what for lane in started for what in lane.absent}):
        screen.say(f"suite: absent here: {what}")
    screen.say(summary(started, screen.took_s))
    return exit_code([lane.code or 0 for lane in started])


def summary(lanes: Sequence[Lane], took_s: float) -> str:
    """The last line: outcomes of all lanes, and how long they took."""
    outcomes = sum((lane.outcomes for lane in lanes), Counter[str]())
    counts = (
        ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()) if count) or "no tests ran"
    )
    times = ", ".join(f"{lane.name} {_clock(lane.took_s)}" for lane in lanes)
    return f"suite: {counts} in {_clock(took_s)} ({times})"


def exit_code(codes: Sequence[int]) -> int:
    """That of the first lane with a bad end. A lane without tests is none, if another had some."""
    bad = (code for code in codes if code not in (0, NO_TESTS))
    return next(bad, 0 if 0 in codes else NO_TESTS)


def alone(options: Sequence[str], root: Path = ROOT) -> bool:
    """Whether these are for one process: they name files, or an option of `ALONE`."""
    named = any(not option.startswith("-") and (root / option.split("::")[0]).exists() for option in options)
    return named or any(option.partition("=")[0] in ALONE for option in options)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def compile_floors() -> None:
    """Make the bytecode of the floors; without it each of hundreds of programs compiles them, in 0.4 s."""
    package = ROOT / "huahuo"
    floors = [str(path.resolve()) for path in package.iterdir() if path.is_symlink()]
    compiler = [sys.executable, "-m", "compileall", "-q", str(package), *floors]
    subprocess.call(compiler, cwd=ROOT, env=ENVIRONMENT)  # noqa: S603  its words are ours


def main(options: Sequence[str]) -> int:
    """Run what `options` choose; the exit code."""
    if alone(options):
        pytest = [sys.executable, "-m", "pytest", *options]
        return subprocess.call(pytest, cwd=ROOT, env=ENVIRONMENT)  # noqa: S603  as above
    compile_floors()
    return run(LANES, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
