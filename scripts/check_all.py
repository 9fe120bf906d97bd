"""The parts of `make check-all`, a few at a time. scripts/check_all.sh installs interpreters and calls this.

    python -m scripts.check_all --full 3.13 3.12=.venv-3.12 3.13=.venv-3.13 [--again] [options of pytest]

On the interpreter of `--full` each slow proof runs in full, and not in its short form; on the others the
suite runs. Then come the deliberate bugs, the programs with two workers, and branch coverage.

What passed is kept in `build/check-all`, so that a run that was interrupted goes on where it was: a part that
passed on the same tree, with the same command and interpreter, does not run again, unless it went without
something that may be there the next time. `--again` runs all.
"""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scripts import coverage, suite
from scripts.lanes import Lane, Screen, Work, clock, pytest, run_all

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "build" / "check-all"
BY_THEMSELVES = (
    "tests/simulation/test_simulator.py",
    "tests/crash/test_log_power.py",
    "tests/crash/test_chaos.py",
    "tests/e2e/test_chaos.py",
    "tests/crash/test_nodes.py",
    "tests/e2e/test_node_faults.py",
    "tests/e2e/test_nodes_over_postgres.py",
    "tests/e2e/test_durable_streams.py",
    "tests/unit/transport/test_native.py",
    "tests/integration/test_workers_same.py",
)
"""Files that take minutes in full: each has a lane of its own then."""
MUTANTS = "tests/unit/checkers/test_mutants.py::test_a_bug_is_found"
MUTANT_LANES = 4


class Asked(NamedTuple):
    """What the command line says."""

    full: str
    pythons: dict[str, str]
    """The path of each interpreter, by its version."""
    again: bool
    options: list[str]


def asked(words: Sequence[str]) -> Asked:
    """Read the command line."""
    full, pythons, again, options = "", dict[str, str](), False, list[str]()
    rest = iter(words)
    for word in rest:
        version, _, folder = word.partition("=")
        if word == "--full":
            full = next(rest)
        elif word == "--again":
            again = True
        elif folder and version.replace(".", "").isdigit():
            pythons[version] = str(ROOT / folder / "bin" / "python")
        else:
            options.append(word)
    return Asked(full, pythons, again, options)


def works(of: Asked, kept: Path) -> Iterator[Work]:
    """All parts, those that take longest first."""
    python = of.pythons[of.full]
    whole = {**suite.ENVIRONMENT, "HUAHUO_WHOLE": "1"}
    short = {**suite.ENVIRONMENT, "HUAHUO_WHOLE": ""}

    def part(name: str, words: Sequence[str], environment: dict[str, str]) -> Work:
        return Work(name, pytest(python, name, [*of.options, *words]), environment)

    for path in BY_THEMSELVES:
        lane = f"{of.full} {_named(path)}"
        yield part(lane, [path], whole)
    for each in range(MUTANT_LANES):
        yield part(f"{of.full} mutants {each + 1}", _mutants(each), whole)
    without = [f"--ignore={path}" for path in BY_THEMSELVES] + [f"--deselect={MUTANTS}"]
    for lane, folders in suite.LANES.items():
        files = [path for path in suite.paths(folders) if path not in BY_THEMSELVES]
        yield part(f"{of.full} {lane}", [*without, *files], whole)
    yield from coverage.works(python, kept, of.options, short)
    listed = (ROOT / "scripts" / "with_workers.txt").read_text(encoding="utf-8").split()
    yield part(f"{of.full} two workers", listed, {**short, "HUAHUO_WORKERS": "2"})
    for version, other in of.pythons.items():
        if version != of.full:
            for lane, folders in suite.LANES.items():
                name = f"{version} {lane}"
                yield Work(name, pytest(other, name, [*of.options, *suite.paths(folders)]), short)


def _named(path: str) -> str:
    """Words that may be the name of a file: crash log_power."""
    return path.removeprefix("tests/").removesuffix(".py").replace("/test_", " ").replace("/", " ")


def _mutants(lane: int) -> list[str]:
    from tests.support.mutants.bugs import BUGS

    return [f"{MUTANTS}[{name}]" for name in list(BUGS)[lane::MUTANT_LANES]]


def tree(root: Path = ROOT) -> str:
    """A hash of all files that git knows or would add."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=root, capture_output=True, check=True)  # noqa: S603  its words are ours
    names = done.stdout.split(b"\0")
    digest = hashlib.sha256()
    for name in sorted({*names} - {b""}):
        path = root / os.fsdecode(name)
        content = path.read_bytes() if path.is_file() else b""
        digest.update(b"%d %s %d " % (len(name), name, len(content)) + content)
    return digest.hexdigest()[:16]


class Kept:
    """What passed on this tree, in a folder with what pytest said; those of other trees are removed."""

    def __init__(self, folder: Path, now: str, *, again: bool = False) -> None:
        self.folder = folder / now
        for each in folder.iterdir() if folder.is_dir() else ():
            if again or each != self.folder:
                shutil.rmtree(each)
        self.folder.mkdir(parents=True, exist_ok=True)

    def has(self, work: Work) -> bool:
        """Whether this part passed, with this command and interpreter."""
        path = self.folder / f"{work.name}.passed"
        return path.is_file() and path.read_text(encoding="utf-8") == _said(work)

    def passed(self, work: Work) -> None:
        """Remember it."""
        (self.folder / f"{work.name}.passed").write_text(_said(work), encoding="utf-8")

    def output(self, lane: Lane) -> Path:
        """Write what pytest said, and say where."""
        path = self.folder / f"{lane.name}.txt"
        path.write_text(lane.said(), encoding="utf-8")
        return path


def _said(work: Work) -> str:
    chosen = {
        name: value for name, value in work.environment.items() if name.startswith("HUAHUO_") or name == "CI"
    }
    return f"{version(work.command[0])}\n{[*work.command]}\n{sorted(chosen.items())}\n"


@functools.cache
def version(python: str) -> str:
    """What the interpreter says of itself."""
    done = subprocess.run([python, "-VV"], capture_output=True, text=True, check=True)  # noqa: S603  ours
    return done.stdout.strip()


def main(words: Sequence[str]) -> int:
    """Run what did not pass yet; the exit code."""
    of, now = asked(words), tree()
    for python in of.pythons.values():
        suite.compile_floors(python)
    kept = Kept(KEPT, now, again=of.again)
    parts = list(works(of, kept.folder))
    left = [work for work in parts if not kept.has(work)]
    screen = Screen("check-all", names=True)
    screen.say(f"check-all: {len(parts)} parts, of which {len(parts) - len(left)} passed on this tree before")
    by_name = {work.name: work for work in parts}
    ends: dict[str, int] = {}

    def ended(lane: Lane) -> None:
        ends[lane.name] = code = suite.exit_code([lane.code or 0, 0], chosen=bool(of.options))
        output = kept.output(lane)
        if code:
            screen.say(f"\n===== {lane.name}: failed =====\n{lane.said()}")
        elif tree() == now and not lane.absent and not lane.outcomes["skipped"]:
            kept.passed(by_name[lane.name])
        verdict = f"failed, see {output.relative_to(ROOT)}" if code else suite.outcomes([lane])
        screen.say(
            f"check-all: {clock(screen.took_s)}  {len(ends)} of {len(left)}  {lane.name}: {verdict}"
            f" in {clock(lane.took_s)}"
        )

    done = run_all(left, suite.AT_ONCE, screen, ROOT, ended)
    for what in sorted({what for lane in done for what in lane.absent}):
        screen.say(f"check-all: absent here: {what}")
    if tree() != now:
        screen.say("check-all: files of the tree changed under the run: nothing is kept of what passed since")
    failed = [name for name, code in ends.items() if code]
    if not of.options and coverage.judge(kept.folder, of.pythons[of.full]):
        failed.append("the bound of branch coverage")
    screen.say(
        f"check-all: {len(parts) - len(failed)} of {len(parts)} parts passed in {clock(screen.took_s)}"
        + "".join(f"\ncheck-all: failed: {name}" for name in failed)
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
