"""How often sign-ins have failed, by name and by address. Pure: the time is an argument."""

from collections import Counter, OrderedDict, deque
from typing import Final

FAILURES_MAX: Final = 10
"""From this failure within a minute on, an answer is a refusal without a look at the password."""
WINDOW_S: Final = 60.0
KEYS_MAX: Final = 10_000


class Failures:
    """The last failures of the last `keys_max` names or addresses that failed."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self.spent: Counter[str] | None = None
        """The failures of each key since it was emptied, for other nodes. None: there are none."""

    def __len__(self) -> int:
        return len(self._times)

    def wait_s(self, key: str, now_s: float) -> float:
        """Seconds until a sign-in may be tried, 0 if it may now."""
        times = self._times.get(key)
        if times is None or len(times) < FAILURES_MAX:
            return 0.0
        return max(0.0, times[0] + WINDOW_S - now_s)

    def failed(self, key: str, now_s: float) -> float:
        """Note a failure. Returns as `wait_s`."""
        if self.spent is not None and (key in self.spent or len(self.spent) < self._keys_max):
            self.spent[key] += 1
        self._note(key, now_s)
        return self.wait_s(key, now_s)

    def charge(self, key: str, count: int, now_s: float) -> None:
        """The key failed `count` times on another node."""
        for _ in range(min(count, FAILURES_MAX)):
            self._note(key, now_s)

    def _note(self, key: str, now_s: float) -> None:
        times = self._times.setdefault(key, deque(maxlen=FAILURES_MAX))
        self._times.move_to_end(key)
        if len(self._times) > self._keys_max:
            self._times.popitem(last=False)
        times.append(now_s)

    def succeeded(self, key: str) -> None:
        """Forget the failures of a name whose user has signed in."""
        self._times.pop(key, None)
        if self.spent is not None:
            self.spent.pop(key, None)
