"""Branch coverage of the rooms that `[tool.coverage.run]` of pyproject.toml names. For make coverage.

Runs the tests that work in one process, prints what no test ran, and fails if the rooms of `NEAR` fall below
what they had reached.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("unit", "contract", "property", "integration", "simulation/test_replicas.py")
NEAR = ("transport/session/*", "transport/access/*", "transport/protocol/*")
LEAST_PERCENT = 99
"""Of these rooms together. It only rises: the goal of each room is 100."""


def coverage(*words: str) -> int:
    """Run coverage with these words; its exit code."""
    command = [sys.executable, "-m", "coverage", *words]
    return subprocess.call(command, cwd=ROOT)  # noqa: S603  the words are those below


def main() -> int:
    """See the module; the exit code."""
    (ROOT / "build").mkdir(exist_ok=True)
    failed = coverage("run", "-m", "pytest", "-q", *(f"tests/{name}" for name in TESTS))
    coverage("report", "--show-missing", "--skip-covered")
    include = ",".join(NEAR)
    return failed or coverage("report", f"--include={include}", f"--fail-under={LEAST_PERCENT}")


if __name__ == "__main__":
    sys.exit(main())
