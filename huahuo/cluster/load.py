"""The part of one core that this process used lately."""

from typing import Final

from huahuo.eventstore.ambient import Ambient

LEAST_S: Final = 1.0
"""A shorter time says little: a question that comes sooner gets the last answer."""


class Load:
    """See the module."""

    def __init__(self, ambient: Ambient) -> None:
        self._ambient = ambient
        self._at_s, self._used_s = ambient.monotonic_s(), ambient.process_s()
        self._last = 0.0

    def lately(self) -> float:
        """Since the last question; 1.0 is one core."""
        at_s, used_s = self._ambient.monotonic_s(), self._ambient.process_s()
        if at_s - self._at_s >= LEAST_S:
            self._last = (used_s - self._used_s) / (at_s - self._at_s)
            self._at_s, self._used_s = at_s, used_s
        return self._last
