"""Queries that wait for a mail server: a few of each user at a time, each within its time."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from huahuo.actors.plugins.calls import Refusal, Reply, error_reply
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.mailcheck.checks.ports import CheckFailed
from huahuo.mailcheck.words import zh

AT_ONCE: Final = 2
"""Queries of one action that a user has under way. Each holds one of the user's turns while it waits."""
_TIMEOUT_S: Final = 60.0


class Asking:
    """The queries of one action. `busy` and `details`: the refusal of one more than `AT_ONCE`."""

    def __init__(self, ambient: Ambient, busy: str, details: str) -> None:
        self._ambient = ambient
        self._busy = error_reply(Refusal("busy", busy, details.format(AT_ONCE)))
        self._running: Counter[str] = Counter()

    async def answer(self, user: str, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        """What `ask` returns, or a refusal: too many are under way, or the mail server fails."""
        if self._running[user] >= AT_ONCE:
            return self._busy
        self._running[user] += 1
        try:
            async with Deadline(self._ambient, _TIMEOUT_S):
                return await ask()
        except CheckFailed as failed:
            return error_reply(Refusal("unavailable", failed.outcome.said, failed.outcome.advice))
        except TimeoutError:
            return error_reply(Refusal("unavailable", zh.SERVER_TOO_SLOW))
        finally:
            self._running[user] -= 1
            if not self._running[user]:
                del self._running[user]
