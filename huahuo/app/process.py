"""The process of a service: its event loop, its memory, its signals, and its stop.

* One loop: uvloop if it is installed, else asyncio's own.
* Memory: the collector rarely examines old objects by itself, and glibc keeps freed memory that lies
  between blocks in use. Both are corrected while the loop has little to do.
* What blocks the loop is named: a thread looks four times a second. It needs the GIL, so a C function
  that keeps the GIL is named only if the loop's callback still runs afterwards.
* Ctrl-C, SIGTERM and SIGHUP: the first asks the program to stop, a second one of the first two ends it. A
  second SIGHUP changes nothing (shell and system may both send one); where it was ignored, as by `nohup`,
  it stays so.
* The stop: parts in reverse order of their start, all within one deadline. A part that hangs or fails
  does not keep those after it from being stopped.
"""

import asyncio
import contextlib
import ctypes
import gc
import math
import os
import resource
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self

import structlog

from huahuo.eventstore.ambient import AwakeAmbient
from huahuo.eventstore.deadline import cancel_all

TIDY_LOOK_S: Final = 5.0
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
        self._timer = self._loop.call_later(TIDY_LOOK_S, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(TIDY_LOOK_S, self._look)
        worked_s, now_s = self._worked_s(), self._now_s()
        idle = worked_s - self._seen_s < _IDLE_SHARE * TIDY_LOOK_S
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


_YOUNG_OBJECTS = 4_000
"""At Python's default of 2,000, events in flight are still referenced, so the collection frees nothing. At
10,000 the middle generation took 12 to 20 ms of the loop's time at half load, the longest stop of all, and at
this number 5 to 7 ms; all collections together took the same time.
"""
_COLLECTIONS_OF_THE_YOUNG = 2
"""Young collections before the middle generation is collected too. In a reconnect storm all objects survive:
collecting 200,000 at a time blocked the loop for 90 ms, and 20,000 take 7 ms. The number of times that each
object is examined is the same.
"""
_COLLECTIONS_OF_THE_MIDDLE = 250
"""Collections of the middle generation before a full one, which are at least 2,000,000 new objects."""

_SWITCH_S = 0.001
"""How long the loop waits for the GIL after each system call while another thread computes. An event takes
about six such waits, so with Python's default of 5 ms they would dominate its latency while mails are parsed.
"""
_END_S = 0.5
"""How long tasks that `work` left may take to heed their cancellation."""

_log = structlog.get_logger(__name__)


def own_the_process() -> None:
    """Tune garbage collector and allocator, and leave no core dump. Only for a process that only serves.

    Objects that exist now, mostly imported modules, live as long as the process, so collections skip them. A
    core dump would hold every key and secret that is in memory.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    tune_allocator()
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _COLLECTIONS_OF_THE_YOUNG, _COLLECTIONS_OF_THE_MIDDLE)


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end on a new loop, and return its result.

    Unlike `asyncio.run`, it does not wait for tasks that ignore their cancellation, nor for threads of the
    loop's default executor, such as name lookups.
    """
    make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        from huahuo.app.forking_loop import ForkingLoop

        make_loop = ForkingLoop
    runner = asyncio.Runner(loop_factory=make_loop)
    try:
        return runner.run(work)
    finally:
        loop = runner.get_loop()
        loop.run_until_complete(_end_tasks())
        loop.close()


async def _end_tasks() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if late := await cancel_all(others, _END_S):
        _log.error("tasks_left_behind", count=late)
    await asyncio.get_running_loop().shutdown_asyncgens()


_BLOCKED_S: Final = 1.0
_LOOK_S: Final = 0.25
_FRAMES_MAX: Final = 8


class Look:
    """What the thread knows. Pure."""

    def __init__(self, now_s: float) -> None:
        self.beat_s = self._looked_s = now_s
        self._told_s = self._late_at_s = -math.inf

    def look(self, now_s: float) -> bool:
        """Whether the loop is blocked now, and was not yet told of.

        A thread that is late itself says nothing: the whole process slept, and no function is to blame.
        """
        late, self._looked_s = now_s - self._looked_s > _BLOCKED_S, now_s
        if late:
            self._late_at_s = now_s
        if late or now_s - self.beat_s < _BLOCKED_S or self._told_s == self.beat_s:
            return False
        self._told_s = self.beat_s
        return True

    def ran(self, from_s: float, to_s: float) -> bool:
        """Whether the process ran between these times, the later of which is now: the thread was not late."""
        return to_s - self._looked_s <= _BLOCKED_S and self._late_at_s < from_s


def places(frame: FrameType | None) -> str:
    """Where a thread is, innermost first: `shop.py:12 in place < decider.py:140 in _outcome`."""
    found: list[str] = []
    while frame is not None and len(found) < _FRAMES_MAX:
        code = frame.f_code
        found.append(f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} in {code.co_name}")
        frame = frame.f_back
    return " < ".join(found) or "unknown"


def watch_loop(
    loop: asyncio.AbstractEventLoop, monotonic_s: Callable[[], float], awake: AwakeAmbient | None = None
) -> Callable[[], None]:
    """Begin, on the loop's own thread. The result ends it. `monotonic_s` is called on both threads.

    `awake`, over the same clock, is told how to tell a held loop from a process that slept.
    """
    thread, ended, known = threading.get_ident(), threading.Event(), Look(monotonic_s())
    if awake is not None:
        awake.ran = known.ran

    timer: asyncio.TimerHandle

    def beat() -> None:
        nonlocal timer
        known.beat_s = monotonic_s()
        timer = loop.call_later(_LOOK_S, beat)

    def work() -> None:
        while not ended.wait(_LOOK_S):
            if known.look(monotonic_s()):
                frame = sys._current_frames().get(thread)  # noqa: SLF001  documented, in spite of its name
                _log.warning("loop_blocked", seconds_min=_BLOCKED_S, at=places(frame))

    def end() -> None:
        ended.set()
        timer.cancel()

    beat()
    threading.Thread(target=work, name="huahuo loop watch", daemon=True).start()
    return end


_RESERVE: float = 1 / 40
"""The share of the deadline that is kept for each later part: 0.25 s of 10 s."""
_GRACE: float = 1 / 5
"""The share of its time that a part gets to cancel what did not end by itself."""


STOP_WORK_S: Final = 3.0
"""How long a stop waits for work that ends because of it."""

type StopPart = Callable[[float], Awaitable[object]]
"""Stops a part. It is told after how many seconds it should cancel what still runs."""


class AtStop:
    """Tells its listeners that the stop begins, and waits for the work that they then bring to an end."""

    def __init__(self) -> None:
        self._waiting: dict[Callable[[], object], None] = {}
        self._begun = False
        self._works: list[asyncio.Future[object]] = []

    def add(self, stops: Callable[[], object]) -> Callable[[], None]:
        """Call `stops` once when the stop begins (at once if it has). The result ends that.

        If `stops` gives a future, such as a task, the stop waits for it while the service still works.
        """
        if self._begun:
            self._tell(stops)
        else:
            self._waiting[stops] = None
        return lambda: self._waiting.pop(stops, None)

    def begin(self) -> None:
        """The stop begins."""
        self._begun = True
        while self._waiting:
            self._tell(self._waiting.popitem()[0])

    async def finish(self, timeout_s: float) -> None:
        """Wait for the work."""
        if self._works:
            await asyncio.wait(self._works, timeout=min(timeout_s, STOP_WORK_S))

    def _tell(self, stops: Callable[[], object]) -> None:
        work = stops()
        if isinstance(work, asyncio.Future):
            self._works.append(work)


class Parts:
    """What has been started and must be stopped."""

    def __init__(self) -> None:
        self._parts: list[tuple[str, StopPart]] = []

    def add(self, name: str, stop: Callable[[], Awaitable[object] | None]) -> None:
        """`stop` is called before that of every part added earlier."""

        async def stop_part(_timeout_s: float) -> None:
            stopped = stop()
            if stopped is not None:
                await stopped

        self._parts.append((name, stop_part))

    def run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, which never ends, until the stop cancels it."""
        task = asyncio.create_task(work, name=name)

        async def stop() -> None:
            task.cancel()
            await asyncio.wait((task,))

        self.add(name, stop)

    def add_timed(self, name: str, stop: StopPart) -> None:
        """As `add`, for a part that cancels by itself."""
        self._parts.append((name, stop))

    async def stop(self, timeout_s: float) -> None:
        """Stop all parts. A part that has not ended in its time is cancelled and left behind.

        Raises:
            Exception: the first exception that a part raised, after the others were stopped.
        """
        loop = asyncio.get_running_loop()
        stop_by_s = loop.time() + timeout_s
        reserve_s = timeout_s * _RESERVE
        failed: Exception | None = None
        while self._parts:
            name, stop_part = self._parts.pop()
            left_s = stop_by_s - loop.time() - reserve_s * len(self._parts)
            try:
                await _guarded(name, stop_part, max(reserve_s, left_s))
            except Exception as error:  # noqa: BLE001  raised below, when the other parts are stopped
                _log.error("part_not_stopped", part=name, error=type(error).__name__)
                failed = failed or error
        if failed is not None:
            raise failed


async def _guarded(name: str, stop_part: StopPart, budget_s: float) -> None:
    """Raises as `stop_part`; returns after `budget_s` whatever happens."""
    grace_s = budget_s * _GRACE
    stopping = asyncio.ensure_future(stop_part(budget_s - grace_s))
    done, late = await asyncio.wait({stopping}, timeout=budget_s - grace_s / 4)
    if late:
        _log.error("part_left_behind", part=name)
        stopping.cancel()
        done, _ = await asyncio.wait({stopping}, timeout=grace_s / 4)
    if done and not stopping.cancelled():
        stopping.result()


_ENDS = (signal.SIGINT, signal.SIGTERM)
_STOPS = (*_ENDS, signal.SIGHUP)
_SAID = b"huahuo: ended at once by a second signal; nothing that was acknowledged is lost\n"


def stop_on_signals(stop: Callable[[], object]) -> None:
    """Call `stop` on the running loop at the first signal. Call this on the main thread, once.

    These are plain handlers and not those of the loop, which would not run while a callback blocks the loop.
    Plain handlers run on the main thread only, and the system may deliver the second signal to another one:
    then a main thread that is blocked stays so. From the first signal on, Python therefore writes their
    numbers into a pipe, and a thread waits for the next one.
    """
    loop = asyncio.get_running_loop()
    asked = False
    numbers, told = os.pipe()
    os.set_blocking(told, False)  # Python refuses one that could block

    def receive(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            if number in _ENDS:
                _end(number)
            return
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        asked = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program is ending already
            loop.call_soon_threadsafe(stop)

    threading.Thread(target=_end_at_a_stop, args=(numbers,), name="second-signal", daemon=True).start()
    for number in _STOPS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, receive)


def _end_at_a_stop(numbers: int) -> None:
    """End the process as soon as the number of one of these signals comes."""
    while number := os.read(numbers, 1):
        if number[0] in _ENDS:
            _end(number[0])


def _end(number: int) -> NoReturn:
    # Not by print: the signal may have interrupted a write to the same file.
    os.write(2, _SAID)
    os._exit(128 + number)
