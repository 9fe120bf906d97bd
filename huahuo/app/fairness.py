"""Who pays for what: the time of commits, reads, decisions and checks, charged to the users they are for.

Implements `huahuo.actors.entities.fairness.Fairness`. What the service appends while checks run is charged to
the users whose checks these are; what else it does for itself is nobody's.
"""

from collections.abc import Callable, Mapping

from huahuo.transport.server.turns import Turns

_USER = "user/"
_SERVICE = "service"


class Fairness:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.checks: Callable[[], Mapping[int, int]] = dict
        """How many checks of each user run."""

    def may_go(self, principal: str) -> bool:
        """See `huahuo.actors.entities.fairness.Fairness`."""
        return self._turns.may_go(principal)

    async def paid(self, principal: str) -> None:
        """See `huahuo.actors.entities.fairness.Fairness`."""
        await self._turns.paid_in_time(principal)

    def charge(self, principal: str, spent_s: float) -> None:
        """See `huahuo.actors.entities.fairness.Fairness`."""
        if principal.startswith(_USER):
            self._turns.charge(principal, spent_s)
        elif principal == _SERVICE:
            checks = self.checks()
            running = sum(checks.values())
            for user_id, count in checks.items():
                self._turns.charge(f"{_USER}{user_id}", spent_s * count / running)

    def wait_s(self, user_id: int) -> float:
        """How long a check of this user should wait before it begins."""
        turns = self._turns
        return turns.wait_s(f"{_USER}{user_id}")
