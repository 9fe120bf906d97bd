"""`Inbox`: the bounded queue of one actor, written by any thread and drained on one loop.

pykka's ActorRef holds its actor weakly, and in stock pykka the thread keeps the actor alive. Here the inbox
keeps it alive (ref -> inbox -> actor) until the actor's end.

States:

    NEW        not started
    IDLE       no message waits
    READY      waits for its turn
    RUNNING    its handler is on the stack
    BUSY       an async handler has begun and has not ended, so that an actor handles one message at a time
    HOOK       the same for `on_start`, `on_stop` and `on_failure`: the actor is not there for messages
    SUSPENDED  between a failure and the restart
    DEAD       for ever

Other threads end only IDLE, and do so under the lock. All other changes are made on the loop's thread.

`Scheduler`: picks the inbox that has the next turn, and bounds how long turns hold the loop.

One callback (`_pump`) gives turns to ready inboxes, the longest waiting first, for one time slice. Then
sockets and timers have the loop. While no inbox is ready, no callback is queued.
"""

import asyncio
import contextvars
import threading
from asyncio.events import _get_running_loop
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from pykka import Actor, ActorDeadError
from pykka.messages import _ActorStop  # private: a stop must find room in a full inbox

from huahuo.actors.actor.messages import Control, Envelope, InboxFull, LoopFuture, Order, Reason, Urgent
from huahuo.eventstore.ambient import Ambient

NEW: Final = 0
IDLE: Final = 1
READY: Final = 2
RUNNING: Final = 3
BUSY: Final = 4
HOOK: Final = 5
SUSPENDED: Final = 6
DEAD: Final = 7


class Host(Protocol):
    """The part of the runtime that inboxes and refs use."""

    ambient: Ambient
    lock: threading.RLock
    loop: asyncio.AbstractEventLoop
    received: int

    def ready_up(self, inbox: "Inbox") -> None:
        """Give the inbox a turn soon. The caller holds `lock`."""
        ...

    def passivate(self, inbox: "Inbox") -> bool:
        """End the actor now if it has nothing to do."""
        ...

    def handle_now(self, inbox: "Inbox", message: Any) -> bool:
        """Handle a message in this call, if the actor is idle. False: nothing was done."""
        ...

    def try_urgent(self, inbox: "Inbox", message: Any, otherwise: Any) -> Any:
        """Handle an urgent message in this call, if none of the actor's code is on the stack."""
        ...

    def interrupt(self, inbox: "Inbox", message: Any, otherwise: Any) -> Any:
        """As `try_urgent`, of an inbox that is known to be IDLE and not entered, on the actor's own loop."""
        ...

    def tell_urgent(self, inbox: "Inbox", message: Any) -> None:
        """As `try_urgent`, but if it cannot be handled now, it goes to the front of the queue."""
        ...


class Extras:
    """Data that few inboxes need: the actor's past failures, and the timer of its restart.

    `fault`: an urgent message that failed while a handler was suspended, and its error, until that handler
    has ended.
    """

    __slots__ = ("failures", "fault", "timer")

    def __init__(self) -> None:
        self.failures: tuple[float, ...] = ()
        self.fault: tuple[Envelope[Any], BaseException] | None = None
        self.timer: asyncio.TimerHandle | None = None


class Inbox:
    """See the module. At most `limit` messages of users wait; 0 means no limit.

    The inbox holds all that an actor, its ref and its successors after a restart share.
    """

    __slots__ = (
        "_extras", "actor", "entered", "limit", "queue", "reason", "recipe", "runtime", "state",
        "stopped", "task", "urn", "waiting",
    )  # fmt: skip

    def __init__(self, runtime: Host, limit: int) -> None:
        self.runtime = runtime
        self.limit = limit
        self.actor: Actor | None = None
        self.state = NEW
        self.entered = False  # True while a handler is called past the queue (`huahuo.actors.actor.runtime`)
        # None while empty, because an empty deque costs 760 bytes.
        self.queue: deque[Envelope[Any]] | None = None
        # Senders that wait for room, in order. Their envelopes move into the queue as room appears.
        self.waiting: deque[tuple[Envelope[Any], LoopFuture[None]]] | None = None
        self.task: asyncio.Task[None] | None = None
        self.reason: Reason | None = None
        # The arguments to rebuild the actor. None if it keeps them itself or is not restarted.
        self.recipe: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._extras: Extras | None = None
        # True once the actor must handle no more messages. An event while a thread waits for that.
        self.stopped: bool | threading.Event = False
        # The actor's name, made on first use: few actors need one.
        self.urn: str | None = None

    @property
    def extras(self) -> Extras:
        """The extras; made on first use."""
        if self._extras is None:
            self._extras = Extras()
        return self._extras

    @property
    def has_extras(self) -> bool:
        """Whether extras were made."""
        return self._extras is not None

    def stop(self) -> None:
        """Let the actor handle no more messages, and wake the threads that wait for that."""
        with self.runtime.lock:
            before, self.stopped = self.stopped, True
        if isinstance(before, threading.Event):
            before.set()

    def wait_stopped(self, timeout_s: float | None) -> bool:
        """Block this thread until the actor is stopped. False: it was not within `timeout_s`."""
        with self.runtime.lock:
            if self.stopped is True:
                return True
            event = self.stopped = self.stopped or threading.Event()
        return event.wait(timeout_s)

    def take_extras(self) -> Extras | None:
        """Remove and return the extras, if there are any."""
        extras, self._extras = self._extras, None
        return extras

    def put(self, envelope: Envelope[Any]) -> None:
        """Add a message. If there is no room, a thread without a loop waits in line.

        Raises:
            ActorDeadError: the actor is dead, and no future could be told so.
            InboxFull: there is no room and this thread runs a loop.
        """
        with self.runtime.lock:
            if self._accepts(envelope):
                return
            waiter = self._refuse_or_wait(envelope, may_wait=_get_running_loop() is None)
        if waiter is not None:
            waiter.get()

    async def put_async(self, envelope: Envelope[Any]) -> None:
        """Add a message, waiting in line for room. If the sender is cancelled meanwhile, none is added.

        Raises:
            ActorDeadError: the actor is dead, and no future could be told so.
        """
        with self.runtime.lock:
            if self._accepts(envelope):
                return
            waiter = self._refuse_or_wait(envelope, may_wait=True)
        if waiter is None:
            return
        try:
            await waiter
        except asyncio.CancelledError:
            with self.runtime.lock:
                if self.waiting is not None and (envelope, waiter) in self.waiting:
                    self.waiting.remove((envelope, waiter))
            raise

    def put_unbounded(self, envelope: Envelope[Any]) -> bool:
        """Add a message of the runtime. A Control goes to the front. False: the actor is dead."""
        with self.runtime.lock:
            if self.state == DEAD or self.runtime.loop.is_closed():
                return False
            self._add(envelope)
            return True

    def put_urgent(self, envelope: Urgent) -> None:
        """Add an urgent message behind the runtime's orders and earlier urgent messages. There is no limit.

        Raises:
            ActorDeadError: the actor is dead.
        """
        with self.runtime.lock:
            if self.state == DEAD or self.runtime.loop.is_closed():
                raise ActorDeadError("the actor has ended")
            if self.queue is None:
                self.queue = deque()
            first = (at for at, waits in enumerate(self.queue) if not isinstance(waits, Control))
            self.queue.insert(next(first, len(self.queue)), envelope)
            self.runtime.received += 1
            if self.state == IDLE:
                self.runtime.ready_up(self)

    def admit(self) -> None:
        """Move messages of waiting senders into the queue while there is room. The caller holds the lock."""
        assert self.queue is not None
        while self.waiting and len(self.queue) < self.limit:
            envelope, waiter = self.waiting.popleft()
            self.queue.append(envelope)
            self.runtime.received += 1
            waiter.set(None)
        if not self.waiting:
            self.waiting = None

    def empty(self) -> bool:
        """Whether nothing is queued (pykka's inbox protocol)."""
        return not self.queue

    def get(self) -> Envelope[Any]:
        """Take the first message (pykka's inbox protocol; the runtime does not use it).

        Raises:
            IndexError: there is none.
        """
        if self.queue is None:
            raise IndexError("an empty inbox")
        return self.queue.popleft()

    def _accepts(self, envelope: Envelope[Any]) -> bool:
        """Add a message if there is room, as there usually is. The caller holds the lock."""
        runtime, queue = self.runtime, self.queue
        if self.state == DEAD or runtime.loop.is_closed():
            return False
        if queue is None:
            queue = self.queue = deque()
        elif self.limit and (self.waiting is not None or len(queue) >= self.limit):
            return False
        queue.append(envelope)
        runtime.received += 1
        if self.state == IDLE:
            runtime.ready_up(self)
        return True

    def _refuse_or_wait(self, envelope: Envelope[Any], *, may_wait: bool) -> LoopFuture[None] | None:
        """Refuse a message that was not accepted, or let it wait in line. The caller holds the lock."""
        if self.state == DEAD or self.runtime.loop.is_closed():
            error = ActorDeadError("the actor has ended")
            if envelope.reply_to is None:
                raise error
            envelope.reply_to.set_exception((ActorDeadError, error, None))
            return None
        if isinstance(envelope.message, _ActorStop):
            self._add(envelope)
            return None
        if not may_wait:
            raise InboxFull(type(self.actor).__name__, self.limit)
        waiter: LoopFuture[None] = LoopFuture()
        self.waiting = self.waiting or deque()
        self.waiting.append((envelope, waiter))
        return waiter

    def _add(self, envelope: Envelope[Any]) -> None:
        if self.queue is None:
            self.queue = deque()
        if isinstance(envelope, Control):
            self.queue.appendleft(envelope)
        else:
            self.queue.append(envelope)
        self.runtime.received += 1
        if self.state == IDLE or (self.state == SUSPENDED and isinstance(envelope.message, Order)):
            self.runtime.ready_up(self)


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
