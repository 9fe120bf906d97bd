"""Looks at one room while you work on it: form, types, and the unit and property tests that import it.

    .venv/bin/python -m scripts.quick transport/session     make quick ROOM=transport/session

All of it runs at the same time, without what is marked as slow. The rest of the tests is `make test`.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.weight import PRODUCT
from tests.support.quick_folder import quick_folder

ROOT = Path(__file__).resolve().parent.parent
PARTS = 4
"""Processes of pytest: some tests wait for disks and clocks."""
NO_TESTS = 5
"""pytest's exit code where all tests of a part are marked."""


def imported_as(room: str) -> str:
    """The folder below which Python and mypy find a room."""
    return room if room.split("/", maxsplit=1)[0] == "huahuo" else f"huahuo/{room}"


def importers(room: str, root: Path = ROOT) -> list[str]:
    """The unit and property tests that import a module of this room."""
    name = re.compile(rf"^\s*(from|import) {imported_as(room).replace('/', r'\.')}\b", re.MULTILINE)
    files = [path for folder in ("unit", "property") for path in (root / "tests" / folder).rglob("test_*.py")]
    return sorted(str(path.relative_to(root)) for path in files if name.search(path.read_text("utf-8")))


def commands(room: str, tests: Sequence[str], folder: str) -> dict[str, list[str]]:
    """What runs, by its name; `folder`: where tests keep their files."""
    python = (sys.executable, "-m")
    pytest = (*python, "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-m", "not slow")
    parts = {f"tests-{part + 1}": tests[part::PARTS] for part in range(PARTS)}
    return {
        "form": [*python, "ruff", "format", "--check", room, *tests],
        "lint": [*python, "ruff", "check", room, *tests],
        "types": [*python, "mypy", imported_as(room), *tests],
        **{name: [*pytest, f"--basetemp={folder}/{name}", *part] for name, part in parts.items() if part},
    }


def run(works: dict[str, list[str]]) -> int:
    """Run all at once, and show what failed; the exit code."""
    began_s = time.monotonic()
    running = {}
    for name, command in works.items():
        output = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)  # noqa: S603
        running[name] = process, output
    failed = []
    for name, (process, output) in running.items():
        if process.wait() not in {0, NO_TESTS}:
            failed.append(name)
        output.seek(0)
        text = output.read().decode(errors="replace").strip()
        sys.stdout.write(f"{text}\n" if name in failed else f"{name}: {text.rpartition('\n')[2]}\n")
    took = f"{time.monotonic() - began_s:.0f} s"
    sys.stdout.write(
        f"quick: {took}, failed: {', '.join(failed)}\n" if failed else f"quick: {took}, all well\n"
    )
    return bool(failed)


def main(words: Sequence[str]) -> int:
    """See the module."""
    room = words[0].strip("/") if len(words) == 1 else ""
    if room.split("/", maxsplit=1)[0] not in PRODUCT or not (ROOT / room).is_dir():
        sys.stderr.write("quick: name a folder of the product: make quick ROOM=transport/session\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="quick-", dir=quick_folder()) as folder:
        return run(commands(room, importers(room), folder))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
