"""Which files of the product run while something happens, in all threads of this process.

Client and server share it; the client (`tests.support.drivers.rawclient`) uses no file of the product.
"""

import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from scripts.weight import PRODUCT
from tests.support.patience import WITHIN_S

ROOT = Path(__file__).resolve().parents[2]
QUIET_S = 0.05
"""Something has ended when no function of the product began for this long. Timers take longer."""
RUNS, RUNS_MAX = 3, 12
_TOOL, _EVENTS, _START = 4, sys.monitoring, sys.monitoring.events.PY_START


@cache
def _file_of(name: str) -> str | None:
    """The path below the root of a file of the product; None: it is of somebody else."""
    path = Path(name).resolve()
    below = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path()
    return below.as_posix() if below.parts[:1] and below.parts[0] in PRODUCT else None


class Journey(NamedTuple):
    """The files, how many functions began, and how many of those another file of the product called."""

    files: frozenset[str]
    calls: int
    hops: int

    def also(self, other: "Journey") -> "Journey":
        """What both have."""
        return Journey(self.files & other.files, min(self.calls, other.calls), min(self.hops, other.hops))


class _Recorder:
    """Notes each function of the product that begins."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.reset()

    def reset(self) -> None:
        """Forget what ran."""
        self.began.clear()
        self._steps: list[tuple[str, str | None]] = []

    def begins(self, code: CodeType, _offset: int) -> object:
        """A function begins, in any thread."""
        file = _file_of(code.co_filename)
        if file is None:
            return _EVENTS.DISABLE
        caller = sys._getframe(1).f_back  # noqa: SLF001  there is no other way to the caller
        self._steps.append((file, None if caller is None else _file_of(caller.f_code.co_filename)))
        self.began.set()
        return None

    def quiet(self) -> None:
        """Wait until nothing runs."""
        while self.began.wait(QUIET_S):
            self.began.clear()

    def journey(self) -> Journey:
        """What ran since `reset`."""
        steps = self._steps
        hops = sum(caller not in {None, file} for file, caller in steps)
        return Journey(frozenset(file for file, _ in steps), len(steps), hops)


@contextmanager
def _recorder() -> Iterator[_Recorder]:
    made = _Recorder()
    _EVENTS.use_tool_id(_TOOL, "journeys")
    _EVENTS.register_callback(_TOOL, _START, made.begins)
    _EVENTS.set_events(_TOOL, _START)
    try:
        yield made
    finally:
        _EVENTS.set_events(_TOOL, 0)
        _EVENTS.free_tool_id(_TOOL)


async def recorded(
    journey: Callable[[], Awaitable[object]], most: int, before: Callable[[], Awaitable[object]] | None = None
) -> Journey:
    """What is in each of several runs, each after `before`; not what is in the first alone, or now and then.

    What the service does each second may fall into a run. So while there are more than `most` files,
    there are more runs: what belongs to the journey is in all of them.
    """
    found: Journey | None = None
    with _recorder() as recorder:
        for number in range(1 + RUNS_MAX):
            if before is not None:
                await before()
            recorder.quiet()
            recorder.reset()
            await journey()
            assert recorder.began.wait(WITHIN_S)
            recorder.quiet()
            if number:
                found = recorder.journey() if found is None else found.also(recorder.journey())
                if number >= RUNS and len(found.files) <= most:
                    break
    assert found is not None
    return found
