"""Each user's recent use of the loop's time, and how long a user that used too much must wait. Pure.

Every user has a debt: the measured time of the work done for it. Time pays the debts off: `SHARE` of the
elapsed time, in equal parts for all users that owe more than `COUNTS_S`, and at least `LEAST_SHARE` for each.

A user that owes more than `FREE_S` waits until its debt has shrunk to that. A user that is alone never waits:
it may use the whole loop.
"""

from typing import Final

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
    """See the module. `slowed` counts the waits."""

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
