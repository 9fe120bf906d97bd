"""Names what blocks the loop: a handler that computes or sleeps for a second delays every client by as much.

A thread looks at the loop four times a second. It needs the GIL to look, so a C function that keeps the GIL
is named only if the loop's callback still runs afterwards.
"""

import asyncio
import math
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

import structlog

from huahuo.eventstore.awake import AwakeAmbient

_BLOCKED_S: Final = 1.0
_LOOK_S: Final = 0.25
_FRAMES_MAX: Final = 8
_log = structlog.get_logger(__name__)


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


def watch(
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
