"""Waiting until a service that was stopped lets go of its directory."""

import asyncio
import fcntl
from pathlib import Path

from huahuo.eventstore.sqlite.directory_lock import LOCK
from tests.support.patience import WITHIN_S


async def log_closed(data: Path) -> None:
    """Return when the log is closed: on a slow disk, later than the end of the stop."""

    def wait() -> None:
        with (data / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)

    async with asyncio.timeout(WITHIN_S):
        await asyncio.to_thread(wait)
