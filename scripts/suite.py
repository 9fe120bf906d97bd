"""Runs the suite as pytest processes, six at a time, and sums them up. For make test and make check-all.

    .venv/bin/python -m scripts.suite                   every test
    .venv/bin/python -m scripts.suite -m "not slow"     each process gets the options

It shows how far each lane is, names a test as soon as it fails, and prints what pytest said when a lane ends.
If you name files, or give an option that needs the terminal or a file to write, pytest runs in one process.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scripts.lanes import Lane, Screen, Work, clock, pytest, run_all

ROOT = Path(__file__).resolve().parent.parent
LANES = {
    "browser c": ("browser/test_c[a-n]*", "browser/test_console_m*"),
    "browser o": ("browser/test_console_[a-ln-z]*",),
    "unit e": ("unit/[e-z]*",),
    "simulation": ("simulation",),
    "integration a": ("contract", "integration/test_a*"),
    "browser f": ("browser/test_[a-bd-z]*",),
    "integration b": ("integration/test_[b-z]*",),
    "e2e s": ("e2e/test_[s-z]*",),
    "crash": ("crash",),
    "e2e c": ("e2e/test_c*",),
    "e2e g": ("e2e/test_[g-o]*",),
    "e2e d": ("e2e/test_[d-f]*",),
    "unit a": ("architecture", "unit/[a-d]*"),
    "e2e a": ("e2e/test_[a-b]*",),
    "property": ("property",),
    "e2e p": ("e2e/test_p*",),
    "e2e r": ("e2e/test_[q-r]*",),
}
"""Folders and files of `tests`, by lane: fixed, so that a test has the same neighbours in each run.

Lanes begin in this order, the long ones first, each as soon as one before it has ended.
"""
AT_ONCE = 6
"""Lanes that run at a time. Most of them wait for programs, disks and pages: two cores have room for six."""
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


def paths(lane: Sequence[str], root: Path = ROOT) -> list[str]:
    """The folders and files of a lane, for pytest."""
    found = sorted(path for pattern in lane for path in (root / "tests").glob(pattern))
    return [str(path.relative_to(root)) for path in found]


def run(lanes: Mapping[str, Sequence[str]], options: Sequence[str], root: Path = ROOT) -> int:
    """Run all lanes; the exit code."""
    screen = Screen("suite")
    works = [
        Work(name, pytest(sys.executable, name, [*options, *paths(folders, root)]), ENVIRONMENT)
        for name, folders in lanes.items()
    ]
    done = run_all(
        works,
        AT_ONCE,
        screen,
        root,
        shown(screen),
        stop_at_failure=bool(STOPPING & set(options)),
    )
    for what in sorted({what for lane in done for what in lane.absent}):
        screen.say(f"suite: absent here: {what}")
    screen.say(summary(done, screen.took_s))
    return exit_code([lane.code or 0 for lane in done], chosen=bool(options))


def shown(screen: Screen) -> Callable[[Lane], None]:
    """What shows a lane's output when it has ended."""
    return lambda lane: screen.say(f"\n===== lane {lane.name} =====\n{lane.said()}")


def outcomes(lanes: Sequence[Lane]) -> str:
    """The outcomes of these lanes together: 1 failed, 3 passed."""
    counts = sum((lane.outcomes for lane in lanes), Counter[str]())
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count) or "no tests ran"


def summary(lanes: Sequence[Lane], took_s: float) -> str:
    """The last line: outcomes of all lanes, and how long they took."""
    times = ", ".join(f"{lane.name} {clock(lane.took_s)}" for lane in lanes)
    return f"suite: {outcomes(lanes)} in {clock(took_s)} ({times})"


def exit_code(codes: Sequence[int], *, chosen: bool) -> int:
    """That of the first lane with a bad end.

    A lane without tests has none, if options chose the tests and another lane had some.
    """
    excused = (0, NO_TESTS) if chosen else (0,)
    bad = (code for code in codes if code not in excused)
    return next(bad, 0 if 0 in codes else NO_TESTS)


def alone(options: Sequence[str], root: Path = ROOT) -> bool:
    """Whether these are for one process: they name files, or an option of `ALONE`."""
    named = any(not option.startswith("-") and (root / option.split("::")[0]).exists() for option in options)
    return named or any(option.partition("=")[0] in ALONE for option in options)


def compile_floors(python: str = sys.executable) -> None:
    """Make the bytecode of the floors; without it each of hundreds of programs compiles them, in 0.4 s."""
    package = ROOT / "huahuo"
    floors = [str(path.resolve()) for path in package.iterdir() if path.is_symlink()]
    compiler = [python, "-m", "compileall", "-q", str(package), *floors]
    subprocess.call(compiler, cwd=ROOT, env=ENVIRONMENT)  # noqa: S603  its words are ours


def main(options: Sequence[str]) -> int:
    """Run what `options` choose; the exit code."""
    if alone(options):
        command = [sys.executable, "-m", "pytest", *options]
        return subprocess.call(command, cwd=ROOT, env=ENVIRONMENT)  # noqa: S603  as above
    compile_floors()
    return run(LANES, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
