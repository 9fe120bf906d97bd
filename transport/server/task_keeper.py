"""The tasks of a connection's actor, and its message that waits for a change."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from huahuo.actors import LoopActor
from huahuo.transport.server.connection_ref import ConnectionEnded, ConnectionRef
from huahuo.transport.server.turn_line import Place
from huahuo.transport.server.turns import Turns


class TaskKeeper(LoopActor):
    """See the module. What a task does to the actor, and its failure, come by the actor's door."""

    _actor_ref: ConnectionRef

    def __init__(self) -> None:
        super().__init__()
        # Also the places of those that have no task yet. An idle connection has none.
        self._tasks: set[asyncio.Task[None] | Place] | None = None
        self._free: asyncio.Future[None] | None = None

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """See `Shell`. The task's steps come by the door, so it must not begin in this call (eagerly)."""
        self._start(work)

    def start_in_turn(
        self, turns: Turns, user: str, work: Callable[[Place | None], Coroutine[Any, Any, None]]
    ) -> None:
        """See `Shell`."""
        place = turns.stand_in_line(user, partial(self._begin_in_turn, work))
        if place is None:
            self._start(work(None))
        elif place.waits:
            self._keep(place)

    def _begin_in_turn(self, work: Callable[[Place | None], Coroutine[Any, Any, None]], place: Place) -> None:
        self._drop(place)
        # A task that is cancelled before it begins does not leave the place by itself.
        self._start(work(place)).add_done_callback(place.leave)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.Task(work, loop=asyncio.get_running_loop())
        self._keep(task)  # else it might be garbage-collected
        task.add_done_callback(self._ended)
        return task

    def _keep(self, waiting: asyncio.Task[None] | Place) -> None:
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(waiting)

    def _cancel_tasks(self) -> None:
        """The client is gone: nobody waits for its answers, events and snapshots.

        Commands are no tasks: one that has not begun is not lost.
        """
        places = [one for one in self._tasks or () if isinstance(one, Place)]
        for place in places:
            self._drop(place)
        for task in tuple(self._tasks or ()):
            task.cancel()
        Place.leave_all(places)

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
        self._drop(task)
        fault = None if task.cancelled() else task.exception()
        if isinstance(fault, Exception) and not isinstance(fault, ConnectionEnded):
            self._actor_ref.fault(fault)

    def _drop(self, waiting: asyncio.Task[None] | Place) -> None:
        if self._tasks is not None:
            self._tasks.discard(waiting)
            if not self._tasks:
                self._tasks = None
