"""Tries bugs, each in a process of its own, and prints what found it, after how many seeds and seconds.

python -m tests.support.mutants                 all of them
python -m tests.support.mutants NAME …          these
python -m tests.support.mutants --sim NAME      in this process: simulate with the bug until it is found
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.support.mutants.bugs import BUGS, PLANS

ROOT = Path(__file__).resolve().parents[3]
WITHIN_S = 900.0
SEEDS_MAX = 12


class Found(NamedTuple):
    """What became of one bug. `by` "": nothing found it."""

    name: str
    by: str
    seeds: int
    seconds: float


def main(words: list[str]) -> int:
    """See the module; the exit code."""
    if words[:1] == ["--sim"]:
        return _simulate(words[1])
    unknown = [word for word in words if word not in BUGS]
    if unknown:
        print(__doc__, f"Names, in quotes: {', '.join(BUGS)}", sep="\n")
        return 0 if unknown[0] in {"-h", "--help"} else 2
    names = words or list(BUGS)
    with ThreadPoolExecutor(int(os.environ.get("JOBS", os.cpu_count() or 1))) as pool:
        found = []
        for one in pool.map(tried, names):
            found.append(one)
            print(line(one), flush=True)
    missed = [one.name for one in found if not one.by]
    print(
        f"{len(found) - len(missed)} of {len(found)} bugs were found",
        *(f"NOT FOUND: {m}" for m in missed),
        sep="\n",
    )
    return bool(missed)


def line(one: Found) -> str:
    """A row of the table in docs/testing.md."""
    seeds = str(one.seeds) if one.seeds else ""
    return f"| {one.name} | {one.by or 'NOT FOUND'} | {seeds} | {one.seconds:.0f} |"


def tried(name: str) -> Found:
    """Run what should find this bug."""
    bug, began_s = BUGS[name], time.monotonic()
    words = [sys.executable, "-m"]
    if bug.plan:
        words += ["tests.support.mutants", "--sim", name]
    else:
        words += [
            "pytest",
            "-q",
            "-x",
            "-p",
            "tests.support.mutants.hook",
            "-p",
            "no:cacheprovider",
            *bug.tests,
        ]
    environ = {**os.environ, "HUAHUO_MUTANT": "" if bug.plan else name, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        words, check=False, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=WITHIN_S
    )
    seconds = time.monotonic() - began_s
    said = done.stdout.strip().splitlines()
    if bug.plan:
        by, _, seeds = (said[-1] if said else "").rpartition(" after ")
        return Found(name, by if done.returncode == 1 and by else "", int(seeds or 0), seconds)
    failed = next((each.split(" ")[1] for each in said if each.startswith("FAILED")), "")
    failed = failed or next((each.split(" ")[1] for each in said if each.startswith("ERROR")), "")
    return Found(name, failed.removeprefix("tests/") if done.returncode == 1 else "", 0, seconds)


def _simulate(name: str) -> int:
    from tests.support.mutants.hook import put_in

    bug = put_in(name)
    from dataclasses import replace

    from tests.support.simulator.report import run

    for seed in range(1, SEEDS_MAX + 1):
        done = run(replace(PLANS[bug.plan], seed=seed))
        if done.failed:
            print(f"{done.failed[0].partition(':')[0]} after {seed}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
