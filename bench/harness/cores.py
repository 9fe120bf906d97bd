"""Server and clients on different cores, so that one does not wait for the other's turn."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def pair() -> tuple[int, int] | None:
    """A core for the server and one for its clients; None where there are no two."""
    if sys.platform != "linux":
        return None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else None


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What this thread starts meanwhile runs on `core` alone. None: wherever it likes."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move(pid: int, core: int) -> None:
    """Move all threads of a process to `core`."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {core})
