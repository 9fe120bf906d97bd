"""One user's line for turns: tasks that wait by a future, and work that has no task yet."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any


class Place:
    """A place in a line, then a turn. A query that waits as a task takes four times as much.

    `begin` is called with the place at its turn, maybe at once, in the context of its maker. `left` is called
    with places that are left together.
    """

    __slots__ = ("_begin", "_context", "_left", "has_turn", "line", "waits")

    def __init__(
        self, line: "Line", begin: Callable[["Place"], None], left: Callable[[Sequence["Place"]], None]
    ) -> None:
        self.line = line
        self._begin = begin
        self._left = left
        self._context = copy_context()
        self.waits = True
        self.has_turn = False

    def done(self) -> bool:
        """As of a future: whether it waits no more."""
        return not self.waits

    def set_result(self, _result: None) -> None:
        """As of a future: it has its turn."""
        self.waits, self.has_turn = False, True
        self._context.run(self._begin, self)

    def leave(self, _task: asyncio.Task[Any] | None = None) -> None:
        """Wait no more, or give the turn back. Idempotent."""
        if self.waits or self.has_turn:
            self._left((self,))

    cancel = leave
    """As of a task."""

    @staticmethod
    def leave_all(places: Sequence["Place"]) -> None:
        """Leave `places`, which wait, together: else each that is left might give a turn to the next."""
        if places:
            places[0]._left(places)  # noqa: SLF001  of this class


class Line:
    """See the module. It exists while anything is in it."""

    __slots__ = ("running", "timer", "user", "waiting")

    def __init__(self, user: str) -> None:
        self.user = user
        self.running = 0
        self.timer: asyncio.TimerHandle | None = None
        self.waiting: deque[asyncio.Future[None] | Place] = deque()
