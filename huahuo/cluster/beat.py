"""A node says every two seconds that it lives, and notices when that is not ordered any more."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, RowPut
from huahuo.eventstore.port import Log

BEAT_S: Final = 2.0
_log = structlog.get_logger(__name__)


class Beat:
    """See the module. `row`: what the node says of itself now."""

    def __init__(self, log: Log, ambient: Ambient, row: Callable[[], RowPut]) -> None:
        self._log = log
        self._ambient = ambient
        self._row = row
        self.number = 0
        self._begun_s = -BEAT_S
        self._durable_s = ambient.monotonic_s()
        self._failed = ""
        """Why the last beat failed, so that the same reason is logged once."""
        self._task: asyncio.Task[None] | None = None

    def begin_if_due(self, now_s: float) -> None:
        """Begin the next one when it is time and the last one has ended. It is not waited for."""
        if self._task is not None and self._task.done():
            self._task = None
        if self._task is None and now_s - self._begun_s >= BEAT_S:
            self._task = asyncio.create_task(self.say(), name="beat")

    def undone_s(self, now_s: float) -> float:
        """For how long none has been durable."""
        return now_s - self._durable_s

    async def say(self) -> None:
        """Write one now."""
        self._begun_s = self._ambient.monotonic_s()
        self.number += 1
        row = self._row()
        try:
            await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=(row,)))
        except EventStoreError as error:
            if str(error) != self._failed:
                self._failed = str(error)
                _log.warning("beat_failed", reason=self._failed)
        else:
            self._failed = ""
            self._durable_s = self._ambient.monotonic_s()

    def cancel(self) -> asyncio.Task[None] | None:
        """Begin no more. Returns the one that was under way, cancelled; None if none was."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        return task
