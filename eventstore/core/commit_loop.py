"""What waits for a commit, and when the next one begins.

Appends gather in a queue while a commit runs. There is no timer and no thread of our own. If more appends
wait than a group holds, the principals take turns (`fair_queue`). Between commits the store cares for its
files.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import structlog

from huahuo.eventstore.core.changes import Change
from huahuo.eventstore.core.fair_queue import FairQueue
from huahuo.eventstore.core.pending import Pending, Written
from huahuo.eventstore.core.queue_room import has_room
from huahuo.eventstore.core.seal import Prepared
from huahuo.eventstore.core.storage_port import Store
from huahuo.eventstore.errors import Closed, QueueFull
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.model import Append
from huahuo.eventstore.port import Hearer

QUEUE_BYTES_PER_USER = 16 << 20
QUEUE_BYTES_MAX = 64 << 20
CARE_RETRY_S = 1.0
_AHEAD = 8
"""What is wanted of a user in the queue is one part in this many of what it may hold."""
_ALL_AHEAD = 32
"""As `_AHEAD`, of all users together: some groups, since in memory an event takes several times its bytes."""
_log = structlog.get_logger(__name__)


class CommitLoop(ABC):
    """See the module. All methods are called on the loop; jobs never overlap."""

    def __init__(self, store: Store, executor: Executor) -> None:
        self.queue_bytes_per_user = QUEUE_BYTES_PER_USER
        self.queue_bytes_max = QUEUE_BYTES_MAX
        self.refused = 0
        """Appends that were refused because the queue was full."""
        self._store = store
        self._executor = executor
        self._queue: FairQueue[Pending] = FairQueue()
        self._running: asyncio.Task[None] | None = None
        self._care_timer: asyncio.TimerHandle | None = None
        self._closed: str | None = None

    @abstractmethod
    async def _one_group(self) -> None:
        """Commit what comes next in the queue."""
        ...

    @property
    def queue_bytes(self) -> int:
        """Bytes that wait for their group."""
        return self._queue.bytes

    def has_room(self, owner: str) -> bool:
        """Whether so little of this principal waits that what it asks for next may be looked at.

        Beyond this, more of it would only take memory while it waits.
        """
        return has_room(
            self._queue,
            owner,
            0,
            bytes_per_user=self.queue_bytes_per_user // _AHEAD,
            bytes_max=self.queue_bytes_max // _ALL_AHEAD,
        )

    def append(self, append: Append, size: int, prepared: Prepared | None = None) -> asyncio.Future[Written]:
        """Queue `append`, of `size` bytes, in its principal's line. The future gets its outcome.

        `prepared`: its secrets, sealed ahead.

        Raises:
            QueueFull: too many bytes of its principal, or of all principals together, wait already.
            Closed: the log accepts no more appends.
        """
        done: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._put(append.principal, Pending(append, (), size, done, prepared), len(append.events), size)
        return done

    def append_for(self, hearer: Hearer, about: Any, append: Append, size: int) -> None:
        """As `append`, but `hearer` is told of it, with `about`."""
        pending = Pending(append, (), size, None, None, hearer, about)
        self._put(append.principal, pending, len(append.events), size)

    def write(self, changes: tuple[Change, ...], size: int) -> asyncio.Future[Written]:
        """As `append`, for changes of the service itself without an append."""
        done: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._put("", Pending(None, changes, size, done), 0, size)
        return done

    async def between_commits(self, job: Callable[[], None]) -> None:
        """Run `job` on the writer's thread, while no commit runs. It must leave no transaction open."""
        await self._executor.run(job)

    def stop(self) -> None:
        """Accept no more appends."""
        self._closed = self._closed or "the log has been closed"

    async def settled(self) -> None:
        """Wait until nothing waits for a commit, and the care that followed is over."""
        while (running := self._running) is not None:
            await asyncio.wait([running])
            await asyncio.sleep(0)
            if self._running is running:  # cancelled before it began
                self._running = None

    async def close(self) -> None:
        """Commit what waits, then release the store. Call once."""
        self.stop()
        await self.settled()
        if self._care_timer is not None:
            self._care_timer.cancel()
        await self._executor.run(self._store.close)

    def _put(self, owner: str, pending: Pending, events: int, size: int) -> None:
        """Not a coroutine, because each append has one already."""
        queue, most = self._queue, self.queue_bytes_per_user
        if queue.bytes + size > most and not has_room(
            queue, owner, size, bytes_per_user=most, bytes_max=self.queue_bytes_max
        ):
            self.refused += 1
            raise QueueFull(f"too much of {owner} waits to be written: nothing was written, try again later")
        if self._closed is not None:
            raise Closed(self._closed)
        queue.put(owner, pending, events, size)
        if self._running is None:
            self._start()

    def _start(self) -> None:
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run(), name="log writer")

    async def _run(self) -> None:
        """Commit group after group until nothing waits."""
        try:
            while True:
                if self._queue:
                    await self._one_group()
                    # The woken appenders run first, so that their next appends join the next group.
                    await asyncio.sleep(0)
                if self._store.care_due():
                    await self._care()
                    if self._store.care_due() and not self._queue:
                        self._care_later()
                        break
                elif not self._queue:
                    break
        finally:
            self._running = None

    async def _care(self) -> None:
        try:
            await self._executor.run(self._store.care)
        except Exception:  # noqa: BLE001  the files grow, the log goes on
            _log.exception("care_failed")

    def _care_later(self) -> None:
        if self._care_timer is None and self._closed is None:
            loop = asyncio.get_running_loop()
            self._care_timer = loop.call_later(CARE_RETRY_S, self._care_again)

    def _care_again(self) -> None:
        self._care_timer = None
        self._start()
