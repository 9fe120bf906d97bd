"""Where a process spends its time, by stages that are told by the paths of its code. With py-spy."""

import contextlib
import signal
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

_HZ = 100


@contextlib.contextmanager
def sampling(pid: int, stacks: Path) -> Iterator[None]:
    """Write what holds a process's interpreter to `stacks` while the block runs; nothing without py-spy."""
    program = Path(sysconfig.get_path("scripts")) / "py-spy"
    if not program.exists():
        yield
        return
    command = [str(program), "record", "--format", "raw", "--full-filenames", "--gil", "-r", str(_HZ)]
    command += ["-o", str(stacks), "-p", str(pid)]
    quiet = subprocess.DEVNULL
    spy = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        spy.send_signal(signal.SIGINT)
        spy.wait()


def shares(stacks: Path, stages: Mapping[str, str]) -> dict[str, float]:
    """The share of each stage. A sample belongs to the innermost code whose path has a part of `stages`."""
    found: Counter[str] = Counter()
    for line in stacks.read_text(encoding="utf-8").splitlines() if stacks.exists() else ():
        stack, _, samples = line.rpartition(" ")
        stage = next((s for frame in reversed(stack.split(";")) if (s := _stage(frame, stages))), "the loop")
        found[stage] += int(samples)
    return {stage: count / found.total() for stage, count in found.most_common()}


def _stage(frame: str, stages: Mapping[str, str]) -> str:
    return next((stage for part, stage in stages.items() if part in frame), "")
