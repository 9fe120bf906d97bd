"""Who used how much of the loop's time lately, and for how long a user who used too much waits. Pure.

Every user has a debt: the measured time of what was done for it, paid off as time goes by, together
`SHARE` of the time in equal parts for all users who owe anything worth counting, and `LEAST_SHARE` for
each. A user who owes more than `FREE_S` waits until it does not, as long as there is anybody else: a user
who is alone has the loop for itself.
"""

from typing import Final

SHARE: Final = 0.5
"""Of the loop's time, for all users who owe something; the rest is for what nobody asked for."""
LEAST_SHARE: Final = 0.1
"""However many owe something: a user who wants no more than this is not slowed by what a hundred others want.
Where that is more than there is, the turns at the writer and the loop itself slow all of them alike.
"""
FREE_S: Final = 0.03
COUNTS_S: Final = 0.005
LEAST_S: Final = 0.001
DEBT_S_MAX: Final = 2.0
"""A single request that took longer does not lock its user out for minutes."""
ALONE_S: Final = 2.0
"""A user is alone if nothing was done for anybody else for this long."""
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
        """How many users owe more than is free, as far as was looked."""
        return sum(self._debts[user].owed_s > FREE_S for user in self._owing)

    def charge(self, user: str, cost_s: float, now_s: float) -> None:
        """Something was done for `user` that held the loop for `cost_s`."""
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
            # Users who stay away would count for ever: look at one of the others, in turn.
            other = next(iter(self._owing))
            del self._owing[other]
            self._owing[other] = None
            self._pay(other, self._debts[other], now_s)

    def contended(self, now_s: float) -> bool:
        """Whether anything was done for more than one user lately."""
        return now_s - self._others_at_s < ALONE_S

    def wait_s(self, user: str, now_s: float) -> float:
        """How long `user` has to wait before anything more is done for it; 0 for most."""
        debt = self._debts.get(user)
        if debt is None or debt.owed_s <= FREE_S:
            return 0.0
        self._pay(user, debt, now_s)
        if debt.owed_s <= FREE_S or not self.contended(now_s):
            return 0.0
        self.slowed += 1
        return max(LEAST_S, (debt.owed_s - FREE_S) / self._rate())

    def owes(self, user: str) -> bool:
        """Whether `user` has used so much time lately that its work should be spread."""
        return user in self._owing

    def _pay(self, user: str, debt: _Debt, now_s: float) -> None:
        debt.owed_s = max(0.0, debt.owed_s - self._rate() * (now_s - debt.at_s))
        debt.at_s = now_s
        if debt.owed_s <= COUNTS_S:
            self._owing.pop(user, None)

    def _rate(self) -> float:
        return max(LEAST_SHARE, SHARE / max(1, len(self._owing)))

    def _forget_paid(self, now_s: float) -> None:
        for user, debt in list(self._debts.items()):
            self._pay(user, debt, now_s)
            if not debt.owed_s:
                del self._debts[user]
