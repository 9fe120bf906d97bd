"""The tasks of a connection's actor, and its message that waits for a change."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from huahuo.actors import LoopActor
from huahuo.transport.server.connection_ref import ConnectionEnded, ConnectionRef


class TaskKeeper(LoopActor):
    """See the module. What a task does to the actor, and its failure, come by the actor's door."""

    _actor_ref: ConnectionRef

    def __init__(self) -> None:
        super().__init__()
        self._tasks: set[asyncio.Task[None]] | None = None  # an idle connection has none
        self._free: asyncio.Future[None] | None = None

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """See `Shell`. The task's steps come by the door, so it must not begin in this call (eagerly)."""
        task = asyncio.Task(work, loop=asyncio.get_running_loop())
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(task)  # else it might be garbage-collected
        task.add_done_callback(self._ended)

    def _cancel_tasks(self) -> None:
        """The client is gone: nobody waits for its answers, events and snapshots.

        Commands are no tasks: one that has not begun is not lost.
        """
        for task in tuple(self._tasks or ()):
            task.cancel()

    async def change(self) -> None:
        """See `Shell`: a waiting message may then go on."""
        self._free = self._free or asyncio.get_running_loop().create_future()
        await asyncio.shield(self._free)

    def _tell_free(self) -> None:
        """A waiting message may go on."""
        free, self._free = self._free, None
        if free is not None and not free.done():
            free.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        assert self._tasks is not None, "the task was started here"
        self._tasks.discard(task)
        if not self._tasks:
            self._tasks = None
        fault = None if task.cancelled() else task.exception()
        if isinstance(fault, Exception) and not isinstance(fault, ConnectionEnded):
            self._actor_ref.fault(fault)
