"""Tickets: single-use sign-ins for readers that can send no header (`EventSource`). Pure.

A ticket stands for the token that it was made with, for 30 s. It may stand in a URL, where a token must not:
URLs are kept in logs and histories.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

TICKET_S: Final = 30.0
TICKETS_MAX: Final = 10_000
_BYTES = 24


class Tickets:
    """The tickets that nobody has used. They are in memory only: after a restart, ask for another one."""

    def __init__(self, random_text: Callable[[int], str]) -> None:
        self._random_text = random_text
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tokens)

    def make(self, token: str, now_s: float) -> str:
        """A ticket for this token. Beyond `TICKETS_MAX`, the oldest one becomes worthless."""
        self._expire(now_s)
        while len(self._tokens) >= TICKETS_MAX:
            self._tokens.popitem(last=False)
        ticket = self._random_text(_BYTES)
        self._tokens[ticket] = token, now_s + TICKET_S
        return ticket

    def use(self, ticket: str, now_s: float) -> str | None:
        """The token, once. None: there is no such ticket, it was used, or it is too old."""
        self._expire(now_s)
        found = self._tokens.pop(ticket, None)
        return None if found is None else found[0]

    def _expire(self, now_s: float) -> None:
        while self._tokens:
            ticket, (_, until_s) = next(iter(self._tokens.items()))
            if until_s > now_s:
                return
            del self._tokens[ticket]
