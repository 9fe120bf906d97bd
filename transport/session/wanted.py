"""The snapshots that a connection still wants, and when a failed one is tried again. Pure.

There is one for each stream: a new subscription replaces an older one, and its snapshot too.
"""

from collections.abc import Callable
from typing import Final

from huahuo.transport.session.subscription import Subscription

FIRST_S: Final = 0.5
LONGEST_S: Final = 10.0
PATIENCE_S: Final = 30.0
"""After this time without a snapshot, the client is told to come back later."""
RETRY_S: Final = (5.0, 15.0)
FAULTS_MAX: Final = 3
"""A fold that failed this often is not tried again."""


class Want:
    """One snapshot that is wanted."""

    __slots__ = ("attempts", "due_s", "faults", "since_s", "sub")

    def __init__(self, sub: Subscription, now_s: float) -> None:
        self.sub = sub
        self.since_s = self.due_s = now_s
        self.attempts = 0
        self.faults = 0


class Wanted:
    """See the module. `chance` returns random numbers in [0, 1)."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._wants: dict[str, Want] = {}

    def __len__(self) -> int:
        return len(self._wants)

    def want(self, sub: Subscription, now_s: float) -> None:
        """Want the snapshot of `sub`, and no longer that of another subscription to its stream."""
        self._wants.pop(sub.stream, None)
        self._wants[sub.stream] = Want(sub, now_s)

    def take(self, now_s: float) -> Want | None:
        """Remove and return the next snapshot that is due; None: none is."""
        for stream, want in self._wants.items():
            if want.due_s <= now_s:
                return self._wants.pop(stream)
        return None

    def not_now(self, want: Want, now_s: float) -> float | None:
        """The snapshot failed for now. None: it is tried again. A number: give up and tell this `retry_s`."""
        if now_s - want.since_s >= PATIENCE_S:
            low, high = RETRY_S
            return round(low + self._chance() * (high - low), 1)
        self._again(want, now_s)
        return None

    def failed(self, want: Want, now_s: float) -> bool:
        """The fold failed. True: give up. False: it is tried again."""
        want.faults += 1
        if want.faults >= FAULTS_MAX:
            return True
        self._again(want, now_s)
        return False

    def clear(self) -> None:
        """Want no snapshot any more."""
        self._wants.clear()

    def _again(self, want: Want, now_s: float) -> None:
        if want.sub.stream in self._wants:
            return  # a newer subscription has replaced this one
        most_s = min(LONGEST_S, FIRST_S * 2.0**want.attempts)
        want.attempts += 1
        want.due_s = now_s + most_s * (1 + self._chance()) / 2
        self._wants[want.sub.stream] = want
