"""The clock for deadlines in a service: it stops while the process does not run. Pure.

When a stopped process (SIGSTOP), a paused virtual machine or a blocked loop runs again, all deadlines have
passed, although nothing was read from the peers meanwhile. The one timer wheel of the service says when it
will turn next (`expect`). If the wheel is late by more than `late_s`, `monotonic_s` leaves the lateness out,
so each deadline that is compared with it moves by the same time.

Only the loop's thread may use it. The log measures commits on other threads, so it has the inner clock.

Consecutive lateness counts up to `slept_s_max`: a service that is always late must still end what is
overdue.
"""

import math
from collections.abc import Callable

from huahuo.eventstore.ambient import Ambient

LATE_S = 1.0
SLEPT_S_MAX = 3600.0


class AwakeAmbient:
    """Implements `Ambient` over another one. See the module."""

    def __init__(self, inner: Ambient, *, late_s: float = LATE_S, slept_s_max: float = SLEPT_S_MAX) -> None:
        self._inner = inner
        self._inner_s = inner.monotonic_s
        self.now_ms = inner.now_ms
        """See `Ambient`. Not a method of our own: each short command asks."""
        self._late_s = late_s
        self._slept_s_max = slept_s_max
        self._due_s = math.inf
        self._late_at_s = math.inf
        self._slept_s = 0.0
        self._in_a_row_s = 0.0
        self._was_late = False
        self.ran: Callable[[float, float], bool] = lambda _from_s, _to_s: False
        """Whether the process itself ran between two times. Set by what watches the loop from a thread."""
        self.loop_was_held = False
        """Whether the process ran while the wheel was late last: something held the loop."""

    def expect(self, in_s: float) -> None:
        """The wheel turns now, and will turn again in `in_s` seconds (`math.inf`: it stops)."""
        now_s = self._noticed_s()
        if not self._was_late:
            self._in_a_row_s = 0.0
        self._was_late = False
        self._due_s = now_s + in_s
        self._late_at_s = self._due_s + self._late_s

    def monotonic_s(self) -> float:
        """See `Ambient`."""
        now_s = self._inner_s()
        if now_s > self._late_at_s:
            self._notice(now_s)
        return now_s - self._slept_s

    def slept_s(self) -> float:
        """See `Ambient`."""
        self._noticed_s()
        return self._slept_s

    def thread_s(self) -> float:
        """See `Ambient`."""
        return self._inner.thread_s()

    def process_s(self) -> float:
        """See `Ambient`."""
        return self._inner.process_s()

    def routine_s(self, seconds: float) -> float:
        """See `Ambient`."""
        return self._inner.routine_s(seconds)

    def random(self) -> float:
        """See `Ambient`."""
        return self._inner.random()

    def token_bytes(self, count: int) -> bytes:
        """See `Ambient`."""
        return self._inner.token_bytes(count)

    def token(self, count: int = 12) -> str:
        """See `Ambient`."""
        return self._inner.token(count)

    def _noticed_s(self) -> float:
        """The inner clock. The first reading after a sleep notices it: timers may run before the wheel."""
        now_s = self._inner_s()
        if now_s > self._late_at_s:
            self._notice(now_s)
        return now_s

    def _notice(self, now_s: float) -> None:
        self.loop_was_held = self.ran(self._due_s, now_s)
        slept_s = min(now_s - self._due_s, self._slept_s_max - self._in_a_row_s)
        self._in_a_row_s += slept_s
        self._slept_s += slept_s
        self._was_late = True
        self._due_s = now_s
        self._late_at_s = now_s + self._late_s
