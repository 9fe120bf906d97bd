"""Looks at the free space every second. The probe is injected, so tests decide what is free."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from huahuo.eventstore.executor import Executor
from huahuo.storage.room import Room

LOOK_S: Final = 1.0
"""Short, because a busy service may write 100 MB a second."""

type FreeBytes = Callable[[], int]
"""How many bytes are free on the disk of the data directory. May block. Raises OSError."""

_log = structlog.get_logger(__name__)


def free_of(directory: Path) -> FreeBytes:
    """The probe of a directory: what an unprivileged process may still write there."""
    return lambda: shutil.disk_usage(directory).free


class Looking:
    """Keeps a room's stage up to date, from `start` to `stop`."""

    def __init__(self, room: Room, free_bytes: FreeBytes, executor: Executor) -> None:
        """`executor`: a thread, because a network's file system may not answer at once."""
        self._room = room
        self._free_bytes = free_bytes
        self._executor = executor
        self._unknown: str | None = None
        """Why the last look failed, told once."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, then every second."""
        await self.look()
        self._task = asyncio.create_task(self._run(), name="free space")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def look(self) -> None:
        """Look now. A probe that fails changes nothing."""
        try:
            self._room.look(await self._executor.run(self._free_bytes))
        except OSError as error:
            if error.strerror != self._unknown:
                self._unknown = error.strerror
                _log.warning("free_space_unknown", reason=error.strerror)
        else:
            self._unknown = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()
