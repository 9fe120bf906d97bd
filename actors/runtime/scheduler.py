"""`Scheduler`: picks the inbox that has the next turn, and bounds how long turns hold the loop.

One callback (`_pump`) gives turns to ready inboxes, the longest waiting first, for one time slice. Then
sockets and timers have the loop. While no inbox is ready, no callback is queued.
"""

import asyncio
import contextvars
import threading
from asyncio.events import _get_running_loop
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from huahuo.actors.actor.inbox import READY, Inbox

# Bounds a slice in a simulated loop, whose clock does not advance while callbacks run.
TURNS_A_SLICE_MAX: Final = 256


class Choice(Protocol):
    """The one method of random.Random that a seeded runtime uses."""

    def randrange(self, stop: int, /) -> int:
        """A number in [0, stop)."""
        ...


class Scheduler:
    """Shared by the inboxes of one runtime; `lock` guards their queues and states too.

    Args:
        loop: The loop on which turns are taken.
        take_turn: Handles messages of an inbox until it is settled, or until the given loop time.
        slice_s: Turns hold the loop at most this long.
        rng: If given, a slice is one turn, and chance picks the inbox.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        take_turn: Callable[[Inbox, float], None],
        slice_s: float,
        rng: Choice | None,
    ) -> None:
        # Re-entrant, because a finalizer may run inside the locked lines and send a message.
        self.lock = threading.RLock()
        self._loop = loop
        self._take_turn = take_turn
        self._slice_s = slice_s
        self._rng = rng
        self._ready: deque[Inbox] = deque()
        self._awake = False
        # Turns run in the context that made the runtime, not in the context of the first sender.
        self._context = contextvars.copy_context()

    @property
    def resting(self) -> bool:
        """Whether no inbox waits for a turn."""
        return not self._awake

    def ready_up(self, inbox: Inbox) -> None:
        """Queue an inbox for a turn, and wake the pump if it sleeps. The caller holds the lock."""
        inbox.state = READY
        self._ready.append(inbox)
        if not self._awake:
            self._awake = True
            if _get_running_loop() is self._loop:
                self._loop.call_soon(self._pump, context=self._context)
            else:
                self._loop.call_soon_threadsafe(self._pump, context=self._context)

    def _pump(self) -> None:
        try:
            end_s = self._loop.time() + self._slice_s
            for _ in range(TURNS_A_SLICE_MAX):
                inbox = self._next()
                if inbox is None:
                    return
                if inbox.state == READY:
                    self._take_turn(inbox, end_s)
                if self._rng is not None or self._loop.time() >= end_s:
                    break
        except BaseException:  # a signal between two handlers must not end all turns
            self._loop.call_soon(self._pump, context=self._context)
            raise
        self._loop.call_soon(self._pump, context=self._context)

    def _next(self) -> Inbox | None:
        if self._ready and self._rng is None:  # only this thread takes inboxes out: no lock
            return self._ready.popleft()
        with self.lock:
            if not self._ready:
                self._awake = False
                return None
            if self._rng is not None:
                self._ready.rotate(-self._rng.randrange(len(self._ready)))
            return self._ready.popleft()
