"""Firings that failed and wait to be tried again: how long, and how many may wait. Pure."""

from heapq import heappop, heappush

from huahuo.actors.timers.timer import Timer


class Retries:
    """See the module. `waiting` and `failures` may be looked at; only the methods change them."""

    def __init__(self, *, count_max: int, first_s: float, longest_s: float) -> None:
        self._count_max = count_max
        self._first_s = first_s
        self._longest_s = longest_s
        self.waiting: list[tuple[float, Timer]] = []
        """A heap of timers, by the time at which each is due again."""
        self.failures: dict[bytes, int] = {}
        """How often a firing has failed in a row, by the timer's key."""

    def add(self, key: bytes, timer: Timer, now_s: float) -> float | None:
        """A firing failed: try it again after the seconds returned. None: there is no room for it."""
        if len(self.waiting) >= self._count_max:
            self.failures.pop(key, None)
            return None
        failures = self.failures[key] = self.failures.get(key, 0) + 1
        wait_s = min(self._longest_s, self._first_s * 2.0 ** min(failures - 1, 20))
        heappush(self.waiting, (now_s + wait_s, timer))
        return wait_s

    def pop(self, now_s: float) -> Timer | None:
        """The first timer that is due again, if there is one."""
        if self.waiting and self.waiting[0][0] <= now_s:
            return heappop(self.waiting)[1]
        return None

    def clear(self) -> None:
        """Nothing waits any more."""
        self.waiting.clear()
        self.failures.clear()

    def succeeded(self, key: bytes) -> None:
        """A firing worked: if the timer fails later, it waits as after a first failure."""
        self.failures.pop(key, None)
