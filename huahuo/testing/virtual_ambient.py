"""The clock and the chance of a virtual world."""

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.testing.virtual_loop import VirtualLoop

_ROUTINE_S_MAX = 3_600.0
_ROUTINE_SHARE = 64
"""A look waits for at most this part of what is left, so that at the end of an `advance` all are as ever."""


class VirtualAmbient(FakeAmbient):
    """The loop's clock, and chance from a seed."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        super().__init__(seed)
        self._loop = loop

    def now_ms(self) -> int:
        """See `Ambient`."""
        return super().now_ms() + round(self._loop.time() * 1000)

    def monotonic_s(self) -> float:
        """See `Ambient`."""
        return self._loop.time()

    def routine_s(self, seconds: float) -> float:
        """See `Ambient`."""
        left_s = self._loop.skips_to_s - self._loop.time()
        return max(seconds, min(_ROUTINE_S_MAX, left_s / _ROUTINE_SHARE))
