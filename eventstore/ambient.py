"""Clock, ids and chance: the only module that asks the machine for them.

All other code takes an `Ambient` by injection, so that a test or a simulated world decides the time and the
random numbers. This module does not know what they are for.

`AwakeAmbient` is the clock for deadlines in a service: it stops while the process does not run. When a
stopped process (SIGSTOP), a paused virtual machine or a blocked loop runs again, all deadlines have
passed, although nothing was read from the peers meanwhile. The one timer wheel of the service says when it
will turn next (`expect`). If the wheel is late by more than `late_s`, `monotonic_s` leaves the lateness
out, so each deadline that is compared with it moves by the same time. Only the loop's thread may use it:
the log measures commits on other threads, so it has the inner clock. Consecutive lateness counts up to
`slept_s_max`: a service that is always late must still end what is overdue.
"""

import math
import random
import secrets
import time
from collections.abc import Callable
from typing import Protocol

import msgspec


class Ambient(Protocol):
    """What the system may know of time and chance."""

    def now_ms(self) -> int:
        """Wall clock in milliseconds since 1970-01-01 UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back; for deadlines."""
        ...

    def slept_s(self) -> float:
        """Seconds so far that `monotonic_s` did not count because the process did not run (`awake`)."""
        ...

    def thread_s(self) -> float:
        """Processor seconds that the calling thread has used; for the cost of a job."""
        ...

    def process_s(self) -> float:
        """Processor seconds that all threads of the process have used together."""
        ...

    def routine_s(self, seconds: float) -> float:
        """How long work that recurs every `seconds` may wait this time. Longer only in virtual time.

        For looks and sweeps that find nothing as long as nothing happens, never for what falls due.
        """
        ...

    def random(self) -> float:
        """A number in [0, 1), for jitter; never for secrets."""
        ...

    def token_bytes(self, count: int) -> bytes:
        """`count` unpredictable bytes, for keys and nonces."""
        ...

    def token(self, count: int = 12) -> str:
        """`count` unpredictable bytes as hexadecimal text, for ids."""
        ...


class SystemAmbient:
    """The machine's own clock and chance."""

    def now_ms(self) -> int:
        """See `Ambient`."""
        return time.time_ns() // 1_000_000

    monotonic_s = staticmethod(time.monotonic)
    """See `Ambient`. Not a method of our own: a short command asks ten times."""

    def slept_s(self) -> float:
        """See `Ambient`."""
        return 0.0

    def thread_s(self) -> float:
        """See `Ambient`."""
        return time.thread_time()

    def process_s(self) -> float:
        """See `Ambient`."""
        return time.process_time()

    def routine_s(self, seconds: float) -> float:
        """See `Ambient`."""
        return seconds

    def random(self) -> float:
        """See `Ambient`."""
        return random.random()  # noqa: S311  jitter only

    def token_bytes(self, count: int) -> bytes:
        """See `Ambient`."""
        return secrets.token_bytes(count)

    def token(self, count: int = 12) -> str:
        """See `Ambient`."""
        return secrets.token_hex(count)


class FakeAmbient:
    """A clock that only moves when told, and chance from a seed. For tests and simulations."""

    def __init__(self, seed: int | str = 0, now_ms: int = 1_790_000_000_000) -> None:
        self._rng = random.Random(seed)  # noqa: S311  repeatable by design
        self._now_ms = now_ms
        self._monotonic_s = 0.0

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._now_ms += round(seconds * 1000)
        self._monotonic_s += seconds

    def jump(self, ms: int) -> None:
        """Set the wall clock forward, or back."""
        self._now_ms += ms

    def now_ms(self) -> int:
        """See `Ambient`."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """See `Ambient`."""
        return self._monotonic_s

    def slept_s(self) -> float:
        """See `Ambient`."""
        return 0.0

    def thread_s(self) -> float:
        """See `Ambient`."""
        return self._monotonic_s

    def process_s(self) -> float:
        """See `Ambient`."""
        return self._monotonic_s

    def routine_s(self, seconds: float) -> float:
        """See `Ambient`."""
        return seconds

    def random(self) -> float:
        """See `Ambient`."""
        return self._rng.random()

    def token_bytes(self, count: int) -> bytes:
        """See `Ambient`."""
        return self._rng.randbytes(count)

    def token(self, count: int = 12) -> str:
        """See `Ambient`."""
        return self._rng.randbytes(count).hex()


def rfc3339(ms: int) -> str:
    """`ms` since 1970 as RFC 3339 UTC with milliseconds and `Z`: `2026-11-24T10:31:07.114Z`."""
    seconds, rest = divmod(ms, 1000)
    parts = time.gmtime(seconds)
    return (
        f"{parts.tm_year:04}-{parts.tm_mon:02}-{parts.tm_mday:02}T"
        f"{parts.tm_hour:02}:{parts.tm_min:02}:{parts.tm_sec:02}.{rest:03}Z"
    )


def json_bytes(value: object) -> bytes:
    """`value` as the compact UTF-8 JSON that is stored and framed.

    Raises:
        TypeError: `value` holds something JSON cannot.
        UnicodeEncodeError: a text holds a lone surrogate.
    """
    return msgspec.json.encode(value)


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
