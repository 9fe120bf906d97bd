"""Ends jobs whose process ended: at a start, and where nodes share the log, soon after a node died."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import structlog

from huahuo.actors.domain import jobs
from huahuo.actors.domain.row_facts import TABLE_PREFIX
from huahuo.actors.entities.sharing import NOTHING, Share
from huahuo.eventstore.cancelling import cancel_all
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.port import Log

TICK_S: Final = 0.5
"""How often it is asked who lives. The table is read only if that has changed, and at the second look:
a node that was frozen hears first that the others went on."""
SETTLE_S: Final = 3.0
"""A node whose part begins may have been cut off: for this long, silence of others says nothing."""
AGAIN_S: Final = 5.0
_PAGE: Final = 256

_log = structlog.get_logger(__name__)


class LeftJobs:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, log: Log, end: Callable[[int, jobs.EndJob], Awaitable[None]]) -> None:
        self._events = log
        self._end = end
        self._share: Share = NOTHING
        self._task: asyncio.Task[None] | None = None

    async def divide(self, share: Share) -> None:
        """From now on, end those of this part, as soon as the process of each has ended."""
        self._share = share
        if share.is_nothing:
            await self.close()
        elif self._task is None:
            self._task = asyncio.create_task(self._run(), name="jobs left open")

    async def close(self) -> None:
        """Look no more. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            await cancel_all([task], 1.0)

    async def look(self, share: Share, *, settled: bool = True) -> bool:
        """End those of this part as `interrupted`. False: one could not be ended, which is logged.

        Raises:
            Unavailable, Closed: the log could not be read.
        """
        living, all_ended, before = self._events.living(), True, None
        while True:
            page = await self._events.rows(TABLE_PREFIX + jobs.TABLE, jobs.OPEN, before=before, limit=_PAGE)
            left = [
                int(key)
                for key, value in page
                if share.has(f"{jobs.KIND}/{int(key)}")
                and is_left(jobs.begun_by(value), living, share.nodes, settled=settled)
            ]
            done = await asyncio.gather(
                *(self._end(job, jobs.EndJob("interrupted")) for job in left), return_exceptions=True
            )
            for job, result in zip(left, done, strict=True):
                if isinstance(result, Exception):
                    all_ended = False
                    _log.error("job_left_open", job_id=job, error=type(result).__name__)
            if len(page) < _PAGE:
                return all_ended
            before = page[-1][0]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        settled_s = loop.time() + SETTLE_S
        seen = looked = None
        while True:
            share, settled = self._share, loop.time() >= settled_s
            now = self._events.living(), share, settled
            if now == seen and now != looked:
                try:
                    all_ended = await self.look(share, settled=settled)
                except EventStoreError as error:
                    all_ended = False
                    _log.warning("jobs_not_read", error=type(error).__name__)
                if all_ended:
                    looked = now
                else:
                    await asyncio.sleep(AGAIN_S)
            seen = now
            await asyncio.sleep(TICK_S)


def is_left(by: str, living: Collection[str], sharing: Collection[str], *, settled: bool) -> bool:
    """Whether the incarnation `by`, which began a job, has ended.

    `sharing`: the nodes that do a part of the work; a silent one of them may still be there. `settled`:
    whether silence says anything. A row without a name is of a service that was alone, or of an older
    version: nobody works on it if nobody else lives.
    """
    if not by:
        return settled and len(living) <= 1 and len(sharing) <= 1
    if by in living:
        return False
    node = _node(by)
    return any(_node(one) == node for one in living) or (settled and node not in sharing)


def _node(incarnation: str) -> str:
    return incarnation.rpartition(".")[0]
