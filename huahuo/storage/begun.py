"""How many streams users may begin: the log keeps the head and the name of each in memory, for good.

A user has a day's worth at once and gets as many back in the course of a day. Streams are counted when they
are committed, so a user may go beyond its bound by what was under way; that is owed. The service is free.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from huahuo.eventstore.ambient import Ambient
from huahuo.transport.protocol.token_bucket import TokenBucket

USERS_MAX: Final = 10_000
"""Of more users, the longest idle are forgotten."""
LOOK_S: Final = 60.0
"""How often users that have waited long enough are cleared, also those that do not ask again."""
_DAY_S: Final = 86_400.0
_USER: Final = "user/"


class Begun:
    """See the module. `changed` is called when a first user reaches its bound, and when none is over it."""

    def __init__(self, per_day: int, ambient: Ambient, changed: Callable[[], None]) -> None:
        self._per_day = per_day
        self._ambient = ambient
        self._changed = changed
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self.over: set[str] = set()
        """The users that have begun too many."""
        self._look_s = 0.0

    def __len__(self) -> int:
        return len(self._buckets)

    def note(self, principal: str) -> None:
        """A principal began a stream."""
        if not principal.startswith(_USER):
            return
        now_s = self._ambient.monotonic_s()
        bucket = self._buckets.get(principal)
        if bucket is None:
            bucket = TokenBucket(self._per_day / _DAY_S, self._per_day, now_s)
            self._buckets[principal] = bucket
            self._forget_some()
        self._buckets.move_to_end(principal)
        bucket.charge(now_s, 1)
        if principal not in self.over and bucket.wait_s(now_s) > 0:
            self.over.add(principal)
            if len(self.over) == 1:
                self._changed()

    def wait_s(self, principal: str) -> float:
        """Seconds until this user may begin a stream; 0 if it may now."""
        if not self.over:
            return 0.0
        now_s = self._ambient.monotonic_s()
        if now_s >= self._look_s:  # also for those that left, which ask no more
            self._look_s = now_s + LOOK_S
            for other in [one for one in self.over if not self._buckets[one].wait_s(now_s)]:
                self._clear(other)
        if principal not in self.over:
            return 0.0
        wait_s = self._buckets[principal].wait_s(now_s)
        if not wait_s:
            self._clear(principal)
        return wait_s

    def _forget_some(self) -> None:
        if len(self._buckets) > USERS_MAX:
            principal, _ = self._buckets.popitem(last=False)
            self._clear(principal)

    def _clear(self, principal: str) -> None:
        if principal not in self.over:
            return
        self.over.discard(principal)
        if not self.over:
            self._changed()
