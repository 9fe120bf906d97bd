"""What entities know of each user's share of the time: they measure, another floor decides."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

OTHERS_WAIT_S_MAX: Final = 5.0
"""An entity that others ask, too, lets its user wait no longer than this."""


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


async def paid_for(fairness: Fairness, principal: str, others_wait: Callable[[], bool]) -> None:
    """As `Fairness.paid`, but the line of one user's work holds up nobody else.

    `others_wait`: whether anybody waits for what this user holds. Then it goes on after at most
    `OTHERS_WAIT_S_MAX`.
    """
    if fairness.may_go(principal):
        return
    paid = asyncio.ensure_future(fairness.paid(principal))
    try:
        while not (await asyncio.wait((paid,), timeout=OTHERS_WAIT_S_MAX))[0]:
            if others_wait():
                return
    finally:
        paid.cancel()
