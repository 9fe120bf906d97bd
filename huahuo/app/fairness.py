"""Who pays for what: the time of commits, reads, decisions and plug-ins, charged to the users they are for.

Implements `huahuo.actors.entities.fairness.Fairness`. What the service appends while plug-ins work for users,
as in a check, is charged to these users; what else it does for itself is nobody's.
"""

from collections.abc import Callable, Collection

from huahuo.actors.plugins.principal import UserId
from huahuo.transport.server.turns import Turns

_USER = "user/"
_SERVICE = "service"


class Fairness:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.at_work: list[Callable[[], Collection[tuple[UserId, int]]]] = []
        """Of each plug-in: users, and how many pieces of work run for each."""

    def may_go(self, principal: str) -> bool:
        """See `huahuo.actors.entities.fairness.Fairness`."""
        return self._turns.may_go(principal)

    async def paid(self, principal: str) -> None:
        """See `huahuo.actors.entities.fairness.Fairness`."""
        await self._turns.paid(principal)

    def charge(self, principal: str, spent_s: float) -> None:
        """See `huahuo.actors.entities.fairness.Fairness`."""
        if principal.startswith(_USER):
            self._turns.charge(principal, spent_s)
        elif principal == _SERVICE:
            work = [one for at_work in self.at_work for one in at_work()]
            running = sum(count for _, count in work)
            for user_id, count in work:
                self._turns.charge(f"{_USER}{user_id}", spent_s * count / running)

    def wait_s(self, user_id: UserId) -> float:
        """How long work for this user should wait before it begins."""
        turns = self._turns
        return turns.wait_s(f"{_USER}{user_id}")
