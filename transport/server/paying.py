"""Lines of work that goes on once its user owes no more time than is free, one piece at a time.

A user may have thousands of pieces. If each of them waited by itself, all would look at the debt whenever it
might be paid, and all would go at once at the end of their patience.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final

PAID_S_MAX: Final = 5.0
"""The first in a line waits at most this long, so that no user starves among many."""


class _Line:
    """One user's; it exists while anything waits. `until_s`: when the first one goes whatever is owed."""

    __slots__ = ("timer", "until_s", "waiting")

    def __init__(self) -> None:
        self.timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self.until_s = 0.0
        self.waiting: deque[asyncio.Future[None]] = deque()


class Paying:
    """See the module. `wait_s`: how long a user has to wait until it owes no more than is free."""

    def __init__(self, wait_s: Callable[[str], float]) -> None:
        self._wait_s = wait_s
        self._lines: dict[str, _Line] = {}

    def waiting(self, user: str) -> int:
        """How many wait in this user's line."""
        line = self._lines.get(user)
        return 0 if line is None else len(line.waiting)

    async def paid(self, user: str) -> None:
        """Return once `user` owes no more time than is free, and all that came before have gone on."""
        line = self._lines.get(user)
        if line is None:
            if self._wait_s(user) <= 0:
                return
            line = self._lines[user] = _Line()
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        line.waiting.append(turn)
        if line.timer is None:
            line.until_s = loop.time() + PAID_S_MAX
            self._look(user, line)
        try:
            await turn
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                line.waiting.remove(turn)
            raise

    def _look(self, user: str, line: _Line) -> None:
        """Let the first one go if it may. It is charged before the next look, which comes a turn later."""
        loop = asyncio.get_running_loop()
        if not line.waiting:
            del self._lines[user]
            return
        wait_s = min(self._wait_s(user), line.until_s - loop.time())
        if wait_s > 0:
            line.timer = loop.call_later(wait_s, self._look, user, line)
            return
        turn = line.waiting.popleft()
        if not turn.done():
            turn.set_result(None)
        line.until_s = loop.time() + PAID_S_MAX
        line.timer = loop.call_soon(self._look, user, line)
