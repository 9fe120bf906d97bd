"""The jobs of this process: tells each of its cancel."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from huahuo.actors.domain import jobs
from huahuo.actors.domain.structs import traits
from huahuo.eventstore.model import StoredEvent
from huahuo.replay.live.feed import Feed

CANCEL_REQUESTED: Final = traits(jobs.JobCancelRequested).name


class _Jobs(Protocol):
    """What the board asks of the jobs."""

    async def state(self, job_id: int) -> jobs.Job:
        """The state of a job."""
        ...


class JobBoard:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, feed: Feed, jobs_of: _Jobs) -> None:
        self._feed = feed
        self._jobs = jobs_of
        self._watched: dict[str, Callable[[], None]] = {}
        self._untap: Callable[[], None] | None = None
        self._looks: set[asyncio.Task[None]] = set()

    def watch(self, job_id: int, cancelled: Callable[[], None]) -> Callable[[], None]:
        """Call `cancelled` once somebody cancels this job; the result ends that."""
        stream = f"{jobs.KIND}/{job_id}"
        self._watched[stream] = cancelled
        if self._untap is None:
            self._untap = self._feed.tap(self._committed)
        return lambda: self._unwatch(stream)

    def _unwatch(self, stream: str) -> None:
        self._watched.pop(stream, None)
        if not self._watched and self._untap is not None:
            self._untap()
            self._untap = None

    def _committed(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        if by_stream is None:  # signals were lost: only the states can tell
            for stream in self._watched:
                look = asyncio.get_running_loop().create_task(self._look(stream))
                self._looks.add(look)
                look.add_done_callback(self._looks.discard)
            return
        for stream in self._watched.keys() & by_stream.keys():
            if any(event.type == CANCEL_REQUESTED for event in by_stream[stream]):
                self._watched[stream]()

    async def _look(self, stream: str) -> None:
        state = await self._jobs.state(int(stream.partition("/")[2]))
        cancelled = self._watched.get(stream)
        if state.status == "cancelling" and cancelled is not None:
            cancelled()
