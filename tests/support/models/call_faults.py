"""Faults at every system call that changes a file of the log, during a run of 500 appends.

`make proof` runs it: `python -m tests.support.models.call_faults`. At each `write`, `pwrite`, `fsync`,
`fdatasync`, `ftruncate`, `rename` and `unlink` the process is killed, or the call fails once with EIO or
ENOSPC. What was acknowledged must be there when the files are opened again. Needs a C compiler.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.support.drivers.log_parent import ROOT
from tests.support.quick_folder import folder_for_programs

SOURCE = Path(__file__).with_suffix(".c")
FAULTS = ("kill", "EIO", "ENOSPC")
APPENDS = 500
FINE = frozenset({"went on", "killed", "not opened"})


def library(folder: Path) -> Path:
    """The built library. Raises CalledProcessError, FileNotFoundError: there is no compiler."""
    built = folder / "call_faults.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", str(built), str(SOURCE), "-ldl"], check=True, cwd=ROOT
    )
    return built


def walk(
    folder: Path, fault: str, first: int, step: int, *, appends: int = APPENDS, until_s: float = math.inf
) -> Counter[str]:
    """Strike at the calls `first`, `first + step`, … in turn. By word, how many runs ended so."""
    return _found(_walker(folder, fault, first, step, appends, until_s))


def calls_of(folder: Path, appends: int = APPENDS) -> int:
    """How many such calls a run makes in which nothing fails."""
    return walk(folder, "kill", 0, 1, appends=appends)["calls"]


def _walker(
    folder: Path, fault: str, first: int, step: int, appends: int, until_s: float
) -> subprocess.Popen[str]:
    root = Path(tempfile.mkdtemp(prefix=f"{fault}-{first}-", dir=folder)).resolve()
    words = map(str, (root, fault, appends, first, step, until_s))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.drivers.call_walker", *words],
        cwd=ROOT, env={**os.environ, "LD_PRELOAD": str(library(root))}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _found(walker: subprocess.Popen[str]) -> Counter[str]:
    told, _ = walker.communicate()
    if walker.returncode:
        raise subprocess.CalledProcessError(walker.returncode, walker.args)
    return Counter(json.loads(told.splitlines()[-1]))


def main() -> int:
    """See the module; the exit code is 1 if something was lost, refused, or did not go on."""
    parser = argparse.ArgumentParser(prog="call_faults")
    parser.add_argument("--every", type=int, default=1, help="strike at each so-and-so-many-th call")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--within-s", type=float, default=0.0, help="end after this time")
    options = parser.parse_args()
    if shutil.which("cc") is None:
        print("NOT PROVED: there is no C compiler: apt-get install gcc libc6-dev")
        return 1
    began_s, wrong = time.monotonic(), False
    with tempfile.TemporaryDirectory(prefix="calls-", dir=folder_for_programs()) as name:
        folder = Path(name)
        calls = calls_of(folder)
        print(f"system calls: {calls:,} change files in a run of {APPENDS} appends")
        for number, fault in enumerate(FAULTS, 1):
            share_s = options.within_s * number / len(FAULTS)
            until_s = began_s + share_s if options.within_s else math.inf
            step = options.every * options.jobs
            walkers = [
                _walker(folder, fault, 1 + options.every * job, step, APPENDS, until_s)
                for job in range(options.jobs)
            ]
            found = sum(map(_found, walkers), Counter[str]())
            del found["calls"]
            said = ", ".join(f"{count:,} {word}" for word, count in sorted(found.items()))
            print(f"  {fault} at {said}")
            wrong = wrong or not found or not found.keys() <= FINE
    print(f"  in {time.monotonic() - began_s:.0f} s")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
