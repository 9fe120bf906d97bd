"""What entities know of each user's share of the time: they measure, another floor decides."""

from typing import Protocol


class Fairness(Protocol):
    """Shares of the loop's, the writer's and the threads' time between principals."""

    def may_go(self, principal: str) -> bool:
        """Whether `principal` owes no more time than is free."""
        ...

    async def paid(self, principal: str) -> None:
        """Return when that is so, or it has waited long enough not to be starved."""
        ...

    def charge(self, principal: str, spent_s: float) -> None:
        """Charge `principal` for this time."""
        ...
