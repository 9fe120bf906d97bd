"""Turns at an executor: a thousand reads of one user delay another user's read by only one of them.

The handler of a request names its user (`acting_for`) in the task that then submits jobs. Jobs of all other
tasks belong to the service. They count as one more user without a bound here: their callers bound them.
"""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from huahuo.eventstore.errors import QueueFull
from huahuo.eventstore.executor import Executor

WAITING_PER_USER_MAX = 1024
WAITING_MAX = 8192

type Charge = Callable[[str, float], None]
"""Called with a user and the seconds that work for this user took. It must not raise."""

_acting: ContextVar[tuple[asyncio.Task[Any] | None, str]] = ContextVar("acting", default=(None, ""))


@contextmanager
def acting_for(user: str) -> Iterator[None]:
    """Jobs that this task submits inside the block belong to `user`. Jobs of tasks created in it do not."""
    token = _acting.set((asyncio.current_task(), user))
    try:
        yield
    finally:
        # If the garbage collector closes a stuck coroutine, this runs in another context, without a token.
        with contextlib.suppress(ValueError):
            _acting.reset(token)


def acting_user() -> str:
    """The user that the current task acts for; "" for the service itself."""
    task, user = _acting.get()
    return user if task is asyncio.current_task() else ""


class FairExecutor:
    """Implements `Executor`: passes at most `at_once` jobs to the inner executor, taking users in turns.

    All methods belong to the loop's thread. Invariants: a job waits only while `at_once` jobs run inside;
    jobs of one user start in the order in which they were submitted.
    """

    def __init__(
        self,
        inner: Executor,
        *,
        at_once: int,
        waiting_per_user_max: int = WAITING_PER_USER_MAX,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self.refused = 0
        """Jobs that were refused because too many waited."""
        self.waiting_per_user_max = waiting_per_user_max
        self.waiting_max = waiting_max
        self._inner = inner
        self._free = at_once
        self._charge: Charge | None = None
        self._thread_s: Callable[[], float] = float
        self._waiting = 0
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """The waiting jobs of each user. The next turn is the first user's."""

    @property
    def free(self) -> int:
        """How many jobs may start at once."""
        return self._free

    @property
    def users_waiting(self) -> int:
        """How many users have a job that waits."""
        return len(self._lines)

    @property
    def waiting(self) -> int:
        """How many jobs wait for their turn."""
        return self._waiting

    def bill(self, charge: Charge, thread_s: Callable[[], float]) -> None:
        """From now on, report the processor time of each job to `charge`, measured by `thread_s`."""
        self._charge, self._thread_s = charge, thread_s

    async def run[T](self, job: Callable[[], T]) -> T:
        """See `Executor`.

        Raises:
            QueueFull: too many jobs of this user, or of all users together, wait already.
        """
        if self._free > 0:
            self._free -= 1
        else:
            await self._turn()
        try:
            if self._charge is None:
                return await self._inner.run(job)
            return await self._charged(job, self._charge)
        finally:
            self._free += 1
            self._call()

    async def _charged[T](self, job: Callable[[], T], charge: Charge) -> T:
        user, thread_s = acting_user(), self._thread_s
        spent_s = 0.0

        def timed() -> T:
            nonlocal spent_s
            began_s = thread_s()
            try:
                return job()
            finally:
                spent_s = thread_s() - began_s

        try:
            return await self._inner.run(timed)
        finally:
            if user:
                charge(user, spent_s)

    def close(self, *, wait: bool = True) -> None:
        """See `Executor`."""
        self._inner.close(wait=wait)

    async def _turn(self) -> None:
        """Wait for a free place. When this returns, the caller owns it."""
        user = acting_user()
        line = self._lines.get(user)
        if user and not self._has_room(0 if line is None else len(line)):
            self.refused += 1
            raise QueueFull(f"too many requests of {user} wait to be read: try again later")
        if line is None:
            line = self._lines[user] = deque()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(user, turn)
            else:
                self._free += 1
                self._call()
            raise

    def _has_room(self, waiting: int) -> bool:
        if waiting >= self.waiting_per_user_max:
            return False
        users = len(self._lines) + (waiting == 0)
        return self._waiting < self.waiting_max or waiting < self.waiting_max // users

    def _forget(self, user: str, turn: asyncio.Future[None]) -> None:
        """Remove a turn that was cancelled while it waited. `_call` may have removed it already."""
        line = self._lines.get(user)
        if line is not None and turn in line:
            line.remove(turn)
            self._waiting -= 1
            if not line:
                del self._lines[user]

    def _call(self) -> None:
        while self._free > 0 and self._lines:
            user, line = next(iter(self._lines.items()))
            turn = line.popleft()
            if line:
                self._lines.move_to_end(user)
            else:
                del self._lines[user]
            self._waiting -= 1
            if not turn.done():
                self._free -= 1
                turn.set_result(None)
