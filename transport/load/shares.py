"""What each user may have of the loop's time and of the memory for answers. Pure.

* `Shares`: every user has a debt, the measured time of the work done for it. Time pays the debts off:
  `SHARE` of the elapsed time, in equal parts for all users that owe more than `COUNTS_S`, and at least
  `LEAST_SHARE` for each. A user that owes more than `FREE_S` waits until its debt has shrunk to that. A
  user that is alone never waits.
* `Overhead`: work is measured where that is easy: decisions, commits, answers. Reading sockets, waking
  tasks and system calls come on top, for small messages as much again. So ten times a second the processor
  time of the whole process is compared with what was charged, and charges are multiplied by what was
  missed.
* `Budget`: the bytes of replies and snapshots in memory are bounded per connection, per user, per process.
  They count from before they are built (by an estimate) until they have left the write buffer. An answer
  that finds no room is not built; the client is told `busy`. Small answers are not counted: while a client
  does not read, its requests are not read either, so it can cause only a few.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

SHARE: Final = 0.5
"""The part of the loop's time for all users that owe time. The rest is for other work."""
LEAST_SHARE: Final = 0.1
"""No user is held below this part of the loop's time, however many others ask for more. If all users together
want more than there is, the turns at the writer and the loop itself slow all of them alike.
"""
FREE_S: Final = 0.03
COUNTS_S: Final = 0.005
LEAST_S: Final = 0.001
DEBT_S_MAX: Final = 2.0
"""A bound, so that one long request does not lock its user out for minutes."""
ALONE_S: Final = 2.0
"""A user is alone if no work was done for another user for this long."""
_KEPT_MAX: Final = 10_000


class _Debt:
    __slots__ = ("at_s", "owed_s")

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s
        self.owed_s = 0.0


class Shares:
    """Each user's recent use of the loop's time, and how long a user that used too much must wait.

    `slowed` counts the waits.
    """

    def __init__(self) -> None:
        self._debts: dict[str, _Debt] = {}
        self._owing: dict[str, None] = {}
        self._last_user = ""
        self._others_at_s = float("-inf")
        self.slowed = 0

    @property
    def over(self) -> int:
        """How many users owe more than `FREE_S`, by the debts as last computed."""
        return sum(self._debts[user].owed_s > FREE_S for user in self._owing)

    def charge(self, user: str, cost_s: float, now_s: float) -> None:
        """Work for `user` held the loop for `cost_s`."""
        if user != self._last_user:
            if self._last_user:
                self._others_at_s = now_s
            self._last_user = user
        debt = self._debts.get(user)
        if debt is None:
            debt = self._debts[user] = _Debt(now_s)
            if len(self._debts) > _KEPT_MAX:
                self._forget_paid(now_s)
        else:
            self._pay(user, debt, now_s)
        debt.owed_s = min(DEBT_S_MAX, debt.owed_s + cost_s)
        if debt.owed_s > COUNTS_S:
            self._owing[user] = None
        if self._owing:
            # Debts of absent users would never shrink: recompute one other debt at each charge, in turn.
            other = next(iter(self._owing))
            del self._owing[other]
            self._owing[other] = None
            self._pay(other, self._debts[other], now_s)

    def contended(self, now_s: float) -> bool:
        """Whether work was done for more than one user in the last `ALONE_S`."""
        return now_s - self._others_at_s < ALONE_S

    def wait_s(self, user: str, now_s: float) -> float:
        """How long `user` must wait before more work is done for it. 0 for most users."""
        debt = self._debts.get(user)
        if debt is None or debt.owed_s <= FREE_S:
            return 0.0
        self._pay(user, debt, now_s)
        if debt.owed_s <= FREE_S or not self.contended(now_s):
            return 0.0
        self.slowed += 1
        return max(LEAST_S, (debt.owed_s - FREE_S) / self._rate())

    def owed_s(self, user: str) -> float:
        """What `user` owes, as last computed."""
        debt = self._debts.get(user)
        return 0.0 if debt is None else debt.owed_s

    def owes(self, user: str) -> bool:
        """Whether `user` owes more than `COUNTS_S`, so that its work should be spread over time."""
        return user in self._owing

    def _pay(self, user: str, debt: _Debt, now_s: float) -> None:
        debt.owed_s = max(0.0, debt.owed_s - self._rate() * (now_s - debt.at_s))
        debt.at_s = now_s
        if debt.owed_s <= COUNTS_S and user in self._owing:
            del self._owing[user]

    def _rate(self) -> float:
        return max(LEAST_SHARE, SHARE / len(self._owing)) if self._owing else SHARE

    def _forget_paid(self, now_s: float) -> None:
        for user, debt in list(self._debts.items()):
            self._pay(user, debt, now_s)
            if not debt.owed_s:
                del self._debts[user]


LOOK_S: Final = 0.1
FACTOR_MAX: Final = 4.0
"""What has nothing to do with anybody's requests must not fall on a few."""
_CHARGED_SHARE_MIN: Final = 0.1
"""Of the time: where hardly anything is charged, the rest is not the overhead of that."""


class Overhead:
    """The factor by which work costs more than the part of it that is measured.

    Invariant: 1 <= `factor` <= `FACTOR_MAX`.
    """

    def __init__(self, now_s: float, process_s: float) -> None:
        self.factor = 1.0
        self.due_s = now_s + LOOK_S
        self._now_s = now_s
        self._process_s = process_s
        self._charged_s = 0.0

    def charged(self, cost_s: float) -> float:
        """What to charge for something that was measured to cost `cost_s`."""
        self._charged_s += cost_s
        return cost_s * self.factor

    def look(self, now_s: float, process_s: float) -> None:
        """Compute `factor` again from the processor time used by the process. Call it from `due_s` on."""
        spent_s, passed_s, charged_s = process_s - self._process_s, now_s - self._now_s, self._charged_s
        found = spent_s / charged_s if charged_s > _CHARGED_SHARE_MIN * passed_s else 1.0
        self.factor = (self.factor + min(max(found, 1.0), FACTOR_MAX)) / 2
        self._now_s, self._process_s, self._charged_s = now_s, process_s, 0.0
        self.due_s = now_s + LOOK_S


SMALL_BYTES: Final = 16 << 10
"""Answers up to this size need no reservation."""
_UNKNOWN_BYTES: Final = 256 << 10
"""The estimate for a kind of answer that was never built before."""
_ESTIMATES_MAX: Final = 4096


class BytesOfUsers:
    """Bytes that count now, of all users and of each. `refused`: how often there was no room."""

    def __init__(self) -> None:
        self.used = 0
        self.refused = 0
        self._users: dict[str, int] = {}

    @property
    def users(self) -> int:
        """How many users have any."""
        return len(self._users)

    def of(self, user: str) -> int:
        """The bytes of one user."""
        return self._users.get(user, 0)

    def add(self, user: str, size: int) -> None:
        """Count `size` bytes more (or fewer, if negative) for `user`."""
        self.used += size
        total = self._users.get(user, 0) + size
        if total:
            self._users[user] = total
        else:
            self._users.pop(user, None)


class BudgetLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The three bounds in bytes."""

    process: int
    user: int
    connection: int


class Budget(BytesOfUsers):
    """The process's budget. Before a refusal, `make_room` is asked to free bytes that are kept for speed."""

    def __init__(self, limits: BudgetLimits) -> None:
        super().__init__()
        self.limits = limits
        self.short_at_s: float | None = None
        """The time of the last refusal by the process's bound."""
        self.make_room: Callable[[int], None] | None = None

    def purse(self, user: str) -> "Purse":
        """The part of one connection of `user`."""
        return Purse(self, user)

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
