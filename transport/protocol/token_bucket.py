"""A token bucket: a burst at once, a rate on average. Pure; the time comes in as an argument."""


class TokenBucket:
    """`burst` at once, `rate` a second on average. Time never counts backwards."""

    __slots__ = ("_at_s", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    def take(self, now_s: float, count: float = 1.0) -> bool:
        """Take `count` if they are there. Takes nothing otherwise."""
        if self._rate <= 0:
            return True
        self._fill(now_s)
        if self._level < count:
            return False
        self._level -= count
        return True

    def wait_s(self, now_s: float, count: float = 1.0) -> float:
        """Seconds until `take` succeeds if nobody else takes; 0 if it would now."""
        if self._rate <= 0:
            return 0.0
        self._fill(now_s)
        return max(0.0, (count - self._level) / self._rate)

    def _fill(self, now_s: float) -> None:
        if now_s > self._at_s:
            self._level = min(self._burst, self._level + (now_s - self._at_s) * self._rate)
            self._at_s = now_s
