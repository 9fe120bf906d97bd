"""How many checks run at once, in all and against one mail server.

A check waits for its host first and for a free place second: a busy provider never holds places
that checks of other providers could use. The table holds hosts in use only.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class _Host:
    """The places of one host and how many checks hold or want one."""

    def __init__(self, places: int) -> None:
        self.places = asyncio.Semaphore(places)
        self.users = 0


class HostLimits:
    """Places for running checks."""

    def __init__(self, *, checks_max: int = 64, per_host_max: int = 16, large_mails_max: int = 4) -> None:
        self._checks = asyncio.Semaphore(checks_max)
        self._per_host_max = per_host_max
        self._hosts: dict[str, _Host] = {}
        self.large_mails = asyncio.Semaphore(large_mails_max)
        """Held while a mail larger than a batch is in memory, so that many checks cannot add up."""

    @asynccontextmanager
    async def place(self, host: str) -> AsyncIterator[None]:
        """Hold a place for a check of `host` while the block runs."""
        entry = self._hosts.get(host)
        if entry is None:
            entry = self._hosts[host] = _Host(self._per_host_max)
        entry.users += 1
        try:
            async with entry.places, self._checks:
                yield
        finally:
            entry.users -= 1
            if entry.users == 0:
                del self._hosts[host]

    def __len__(self) -> int:
        return len(self._hosts)
