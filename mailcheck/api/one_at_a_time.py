"""Work of which each user does one piece at a time, in the order in which it was asked for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from huahuo.actors.plugins.principal import UserId


class OneAtATime:
    """See the module. It keeps nothing of users without work."""

    def __init__(self) -> None:
        self._users: dict[UserId, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def of(self, user_id: UserId) -> AsyncIterator[None]:
        """Wait until no earlier piece of this user's work is left, and hold its place during the block."""
        lock, count = self._users.get(user_id, (asyncio.Lock(), 0))
        self._users[user_id] = lock, count + 1
        try:
            async with lock:
                yield
        finally:
            _, count = self._users.pop(user_id)
            if count > 1:
                self._users[user_id] = lock, count - 1
