"""Clock, ids and chance: the only module that asks the machine for them.

All other code takes an `Ambient` by injection, so that a test or a simulated world decides the time and the
random numbers. This module does not know what they are for.
"""

import os
import random
import secrets
import time
from collections import deque
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


class _Drawn:
    """Unpredictable bytes, drawn 4 KiB at a time.

    Each draw is a system call during which other threads may take the interpreter, and after a restart
    thousands of clients need an id at once. Several threads may ask.
    """

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        os.register_at_fork(after_in_child=self._pieces.clear)  # a child must not repeat what its parent drew

    def take(self, count: int) -> bytes:
        """`count` bytes that no other caller gets."""
        if count > _PIECE_BYTES:
            return secrets.token_bytes(count)
        while True:
            try:
                return self._pieces.popleft()[:count]
            except IndexError:
                drawn = secrets.token_bytes(_PIECES * _PIECE_BYTES)
                self._pieces.extend(
                    drawn[at : at + _PIECE_BYTES] for at in range(0, len(drawn), _PIECE_BYTES)
                )


_PIECE_BYTES = 16
_PIECES = 256
_drawn = _Drawn()


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
        return _drawn.take(count).hex()


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
