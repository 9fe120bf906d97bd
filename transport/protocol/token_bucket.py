"""A token bucket. Pure: the time is an argument."""


class TokenBucket:
    """`burst` at once, `rate` a second on average (0: no limit). A clock that goes back is ignored."""

    __slots__ = ("_at_s", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    def take(self, now_s: float, count: float = 1.0) -> bool:
        """Take `count` tokens, or none if there are fewer."""
        if self._rate <= 0:
            return True
        self._fill(now_s)
        if self._level < count:
            return False
        self._level -= count
        return True

    def charge(self, now_s: float, count: float) -> None:
        """Take `count` tokens that were given out elsewhere, also if there are fewer: they are owed."""
        self._fill(now_s)
        self._level -= count

    def wait_s(self, now_s: float, count: float = 1.0) -> float:
        """Seconds until `take` would succeed if no tokens are taken before; 0 if it would now."""
        if self._rate <= 0:
            return 0.0
        self._fill(now_s)
        return max(0.0, (count - self._level) / self._rate)

    def _fill(self, now_s: float) -> None:
        if now_s > self._at_s:
            self._level = min(self._burst, self._level + (now_s - self._at_s) * self._rate)
            self._at_s = now_s
