"""Branch coverage of the rooms that `[tool.coverage.run]` of pyproject.toml names. For make coverage.

Runs the tests that work in one process, in lanes, prints what no test ran, and fails if that is anything.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scripts import suite
from scripts.lanes import Screen, Work, pytest, run_all

ROOT = Path(__file__).resolve().parent.parent
LANES = {
    "unit": ("unit",),
    "integration": ("contract", "integration"),
    "property": ("property",),
}
LEAST_PERCENT = 100
"""Of lines and branches. What nothing can reach is not written."""
ELSEWHERE = ("tests/unit/checkers/test_mutants.py", "tests/unit/bench", "tests/unit/scripts")
"""What runs nothing of those rooms in its own process."""


def works(
    python: str, folder: Path, options: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Work]:
    """The lanes, each of which writes what it ran into a file of this folder."""
    for name, folders in LANES.items():
        measured = ["-m", "coverage", "run", f"--data-file={_data(folder, name)}"]
        words = [*options, *(f"--ignore={path}" for path in ELSEWHERE), *suite.paths(folders)]
        lane = f"coverage {name}"
        yield Work(lane, pytest(python, lane, words, measured), environment)


def judge(folder: Path, python: str) -> int:
    """Print what no test of these lanes ran; not 0 if that is too much."""

    def coverage(action: str, *words: str) -> int:
        command = [python, "-m", "coverage", action, f"--data-file={folder / 'together.coverage'}", *words]
        return subprocess.call(command, cwd=ROOT)  # noqa: S603  the words are those below

    coverage("combine", "--keep", *(str(_data(folder, name)) for name in LANES))
    return coverage("report", "--show-missing", "--skip-covered", f"--fail-under={LEAST_PERCENT}")


def _data(folder: Path, name: str) -> Path:
    return folder / f"{name}.coverage"


def main(options: Sequence[str]) -> int:
    """See the module; the exit code."""
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    suite.compile_floors()
    screen = Screen("coverage")
    lanes = list(works(sys.executable, folder, options, suite.ENVIRONMENT))
    done = run_all(lanes, len(lanes), screen, ROOT, suite.shown(screen))
    failed = suite.exit_code([lane.code or 0 for lane in done], chosen=bool(options))
    return failed or judge(folder, sys.executable)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
