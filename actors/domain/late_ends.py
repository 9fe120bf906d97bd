"""Ends of jobs that could not be written, as on a full disk: each is tried again until it is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from huahuo.actors.actor.errors import AskTimeout
from huahuo.actors.domain.jobs import EndJob
from huahuo.actors.entities.errors import EntityError
from huahuo.eventstore.cancelling import cancel_all
from huahuo.eventstore.errors import Closed, EventStoreError, TooLarge

AGAIN_S: Final = 5.0

_log = structlog.get_logger(__name__)


class LateEnds:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, tell: Callable[[int, EndJob, str], Awaitable[object]]) -> None:
        self._tell = tell
        self._waiting: dict[int, tuple[EndJob, str]] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def end(self, job_id: int, command: EndJob, trace: str = "") -> None:
        """End a job; of several ends that wait for room, the first counts. `trace`: the command's id.

        Raises:
            Refused, and as `Directory.ask`. If it may pass, the end is tried again by itself.
        """
        self._waiting.setdefault(job_id, (command, trace))
        try:
            await self._try(job_id)
        finally:  # also where the caller was cancelled in the midst
            if self._waiting and self._task is None and not self._closed:
                self._task = asyncio.create_task(self._run(), name="ends of jobs")

    async def close(self) -> None:
        """Try no more: the next start ends these jobs. Idempotent."""
        self._closed = True
        self._waiting.clear()
        task, self._task = self._task, None
        if task is not None:
            await cancel_all([task], 1.0)

    async def _try(self, job_id: int) -> None:
        try:
            await self._tell(job_id, *self._waiting[job_id])
        except Exception as error:
            if not _may_pass(error):
                self._waiting.pop(job_id, None)
            raise
        self._waiting.pop(job_id, None)

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(AGAIN_S)
            failed: list[tuple[int, str]] = []
            for job_id in [*self._waiting]:
                if job_id not in self._waiting:
                    continue  # another end of it was written meanwhile
                try:
                    await self._try(job_id)
                except Exception as error:  # noqa: BLE001  the others are tried all the same
                    failed.append((job_id, type(error).__name__))
            if failed:  # one line for all: a full disk has no room for thousands
                _log.warning("job_not_ended", jobs=len(failed), job_id=failed[0][0], error=failed[0][1])
        self._task = None


def _may_pass(error: Exception) -> bool:
    passing = isinstance(error, EventStoreError | EntityError | AskTimeout)
    return passing and not isinstance(error, Closed | TooLarge)
