"""Returns memory to the system after a burst of work: collects garbage and releases free memory.

The collector rarely examines old objects by itself, and glibc keeps freed memory that lies between blocks in
use. Both are corrected while the loop has little to do.
"""

import asyncio
import contextlib
import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

LOOK_S: Final = 5.0
_IDLE_SHARE: Final = 0.1
"""Below this share of a processor the loop counts as idle."""
_WORK_S: Final = 0.5
"""After less processor time than this there is hardly any garbage, so nothing is tidied."""
_WAIT_S: Final = 30.0
"""A loop that is never idle is tidied after this long, if the last time took at most `_PAUSE_S_MAX`."""
_PAUSE_S_MAX: Final = 0.05
_REST: Final = 100
"""After tidying, rest this many times as long, so that it takes at most 1 % of the time."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of `mallopt`, from malloc.h."""
_LARGE_BYTES: Final = 1 << 20
_ARENAS: Final = 2
_UNKNOWN_BYTES: Final = 512 << 20


def limit_bytes(root: Path = Path("/")) -> int:
    """The memory that this process may have: the least limit of its cgroups, or all that there is."""
    found = (
        [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
        if hasattr(os, "sysconf")
        else [_UNKNOWN_BYTES]
    )
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text("utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds and "memory" not in kinds.split(","):
                continue
            top = root / "sys/fs/cgroup" / ("memory" if kinds else "")
            inner = top / path.lstrip("/")  # in a container it may be the top itself
            for group in (inner, *inner.parents):
                if group.is_relative_to(top):
                    found += _limit(group / ("memory.limit_in_bytes" if kinds else "memory.max"))
    return min(found)


def _limit(file: Path) -> list[int]:
    try:
        return [int(file.read_text("ascii"))]
    except (OSError, ValueError):  # it has none, or "max"
        return []


def tune_allocator() -> None:
    """Return large blocks to the system as soon as they are freed, and let threads share two heaps.

    By default each freed large block raises glibc's threshold for mapping blocks separately, up to 32 MiB.
    After a few large replies, all large blocks would come from the heap and fragment it.
    """
    mallopt = _libc("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _LARGE_BYTES)
        mallopt(_ARENA_MAX, _ARENAS)


def release_free() -> None:
    """Return freed memory to the system, if the C library can (`malloc_trim` of glibc)."""
    trim = _libc("malloc_trim")
    if trim is not None:
        trim(0)


def _libc(name: str) -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
    return function


def _worked_s() -> float:
    """The processor time of this process."""
    times = os.times()
    return times.user + times.system


class Tidier:
    """A context in which garbage of a loop's work is tidied up. See the module's docstring.

    `collects`: run the garbage collector, which is only ours in our own process. Freed memory is released
    in any process. `let_go`: called first when the loop is idle; it empties caches that can be filled again.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        collects: bool,
        let_go: Callable[[], None] | None = None,
        collect: Callable[[], object] = gc.collect,
        release: Callable[[], None] = release_free,
        worked_s: Callable[[], float] = _worked_s,
        now_s: Callable[[], float] | None = None,
    ) -> None:
        self._loop = loop
        self._let_go = let_go
        self._collect = collect if collects else None
        self._release = release
        self._worked_s = worked_s
        self._now_s = now_s or loop.time
        self._seen_s = self._tidy_at_s = self._let_go_at_s = worked_s()
        self._waits_since_s: float | None = None
        self._pause_s = 0.0
        self._rests_until_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(LOOK_S, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._look)
        worked_s, now_s = self._worked_s(), self._now_s()
        idle = worked_s - self._seen_s < _IDLE_SHARE * LOOK_S
        self._seen_s = worked_s
        if idle and self._let_go is not None and worked_s - self._let_go_at_s >= _WORK_S:
            # Without a rest: it is quick, and while the loop was busy, tidying let nothing go.
            self._let_go_at_s = worked_s
            self._let_go()
        if worked_s - self._tidy_at_s < _WORK_S or now_s < self._rests_until_s:
            return
        if self._waits_since_s is None:
            self._waits_since_s = now_s
        if idle or (now_s - self._waits_since_s >= _WAIT_S and self._pause_s <= _PAUSE_S_MAX):
            self._tidy()

    def _tidy(self) -> None:
        began_s = self._now_s()
        if self._collect is not None:
            self._collect()
        self._release()
        ended_s = self._now_s()
        self._pause_s = ended_s - began_s
        self._rests_until_s = ended_s + _REST * self._pause_s
        self._waits_since_s = None
        self._seen_s = self._tidy_at_s = self._worked_s()
