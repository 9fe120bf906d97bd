"""Bounds on the bytes of replies and snapshots in memory: per connection, per user, per process. Pure.

Bytes count from before they are built (by an estimate) until they have left the write buffer. An answer that
finds no room is not built; the client is told `busy`. Small answers are not counted: while a client does not
read, its requests are not read either, so it can cause only a few.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

SMALL_BYTES: Final = 16 << 10
"""Answers up to this size need no reservation."""
_UNKNOWN_BYTES: Final = 256 << 10
"""The estimate for a kind of answer that was never built before."""
_ESTIMATES_MAX: Final = 4096


class BudgetLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The three bounds in bytes."""

    process: int
    user: int
    connection: int


class Budget:
    """The process's budget. `used` bytes are counted now; `refused` is the number of refusals.

    Before a refusal, `make_room` is asked to free bytes that are kept only for speed (see `keep`).
    """

    def __init__(self, limits: BudgetLimits) -> None:
        self.limits = limits
        self.used = 0
        self.refused = 0
        self.short_at_s: float | None = None
        """The time of the last refusal by the process's bound."""
        self.make_room: Callable[[int], None] | None = None
        self._users: dict[str, int] = {}

    @property
    def users(self) -> int:
        """How many users have bytes in the budget."""
        return len(self._users)

    def purse(self, user: str) -> "Purse":
        """The part of one connection of `user`."""
        return Purse(self, user)

    def of(self, user: str) -> int:
        """The bytes of one user."""
        return self._users.get(user, 0)

    def keep(self, size: int) -> bool:
        """Count bytes that are kept only for speed. False: there is no room for them. See `drop`."""
        if self.used + size > self.limits.process:
            return False
        self.used += size
        return True

    def drop(self, size: int) -> None:
        """Stop counting bytes that `keep` counted."""
        self.used -= size

    def admits(self, user: str, size: int, now_s: float) -> bool:
        """Whether `user` may have `size` bytes more; counts a refusal otherwise."""
        if self.of(user) + size > self.limits.user:
            self.refused += 1
            return False
        if self.used + size > self.limits.process and self.make_room is not None:
            self.make_room(self.used + size - self.limits.process)
        if self.used + size > self.limits.process:
            self.refused += 1
            self.short_at_s = now_s
            return False
        return True

    def add(self, user: str, size: int) -> None:
        """Count `size` bytes more (or fewer, if negative) for `user`."""
        self.used += size
        total = self._users.get(user, 0) + size
        if total:
            self._users[user] = total
        else:
            self._users.pop(user, None)


class Purse:
    """One connection's part: its reserved bytes and the content of its write buffer.

    Invariant: the budget counts exactly the sum of both, until `close`.
    """

    __slots__ = ("_budget", "_buffered", "_closed", "_moved_at_s", "_reserved", "user")

    def __init__(self, budget: Budget, user: str) -> None:
        self._budget = budget
        self.user = user
        self._reserved = 0
        self._buffered = 0
        self._moved_at_s = 0.0
        self._closed = False

    @property
    def used(self) -> int:
        """The bytes that count for this connection."""
        return self._reserved + self._buffered

    def reserve(self, size: int, now_s: float) -> bool:
        """Reserve `size` bytes before an answer of about that size is built. False: there is no room."""
        if self.used + size > self._budget.limits.connection:
            self._budget.refused += 1
            return False
        if not self._budget.admits(self.user, size, now_s):
            return False
        self._reserve(size)
        return True

    def correct(self, estimate: int, size: int) -> None:
        """The answer is built: replace its estimate by its size, even if that is beyond a bound."""
        self._reserve(size - estimate)

    def release(self, size: int) -> None:
        """End a reservation: the bytes now count as part of the write buffer, or were dropped."""
        self._reserve(-size)

    def buffer(self, size: int, now_s: float) -> None:
        """Set the size of the write buffer's content to `size` bytes."""
        if self._closed:
            return
        if size < self._buffered or not self._buffered:
            self._moved_at_s = now_s
        self._budget.add(self.user, size - self._buffered)
        self._buffered = size

    def stuck_s(self, now_s: float) -> float:
        """For how long nothing has left the write buffer; 0 if it is empty."""
        return now_s - self._moved_at_s if self._buffered else 0.0

    def close(self) -> None:
        """The connection is gone: its bytes no longer count, and later calls change nothing."""
        self._closed = True
        self._budget.add(self.user, -self.used)
        self._reserved = self._buffered = 0

    def _reserve(self, size: int) -> None:
        if self._closed:
            return
        self._reserved += size
        self._budget.add(self.user, size)


class Estimates:
    """Estimates the size of an answer by the last one of its kind. Keeps the 4,096 kinds used last."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[tuple[str, str], int] = OrderedDict()

    def of(self, owner: str, kind: str) -> int:
        """The estimate for one kind of answer to one owner."""
        return self._sizes.get((owner, kind), _UNKNOWN_BYTES)

    def learn(self, owner: str, kind: str, size: int) -> None:
        """An answer of this kind was built, with this size."""
        self._sizes[owner, kind] = size
        self._sizes.move_to_end((owner, kind))
        if len(self._sizes) > _ESTIMATES_MAX:
            self._sizes.popitem(last=False)
