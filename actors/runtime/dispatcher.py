"""`Dispatcher`: runs the turn of an inbox, and begins and ends actors.

If a handler returns a coroutine, a task runs it, and the inbox is BUSY until it has ended, so that an actor
handles one message at a time. `huahuo.actors.runtime.door` has the ways past the queue.

Invariant: every message is handled, or its sender is told (ActorDeadError), or it is counted as a dead
letter.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from inspect import iscoroutine
from typing import Any, cast

from pykka import Actor, ActorDeadError, ActorRegistry

from huahuo.actors.actor.errors import HandlerCancelled
from huahuo.actors.actor.inbox import BUSY, DEAD, HOOK, IDLE, RUNNING, SUSPENDED, Inbox
from huahuo.actors.actor.loop_actor import LoopActor
from huahuo.actors.actor.messages import Control, Envelope, Order, Reason, Urgent
from huahuo.actors.runtime.dead_letters import DeadLetters, answer, refuse
from huahuo.actors.runtime.scheduler import Choice, Scheduler
from huahuo.actors.runtime.supervisor import Supervisor
from huahuo.eventstore.ambient import Ambient

_log = logging.getLogger("pykka")


class Dispatcher:
    """See the module. `Door` adds the ways past the queue, `Runtime` the public methods."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ambient: Ambient,
        rng: Choice | None,
        throughput: int,
        slice_s: float,
    ) -> None:
        self.loop = loop
        self.ambient = ambient
        self._scheduler = Scheduler(loop, self._take_turn, slice_s, rng)
        self.lock = self._scheduler.lock
        self.ready_up = self._scheduler.ready_up
        self.alive = 0
        self.restarts = 0
        self._letters = DeadLetters()
        self.received = 0  # messages put into inboxes; changed under the lock
        self._taken = 0  # messages taken out of inboxes; changed on the loop
        self._throughput = throughput if rng is None else 1
        self._supervisor = Supervisor(self)
        self._background: set[asyncio.Task[None]] = set()

    def begin(self, inbox: Inbox) -> None:
        """Start the inbox's actor, and then let it handle waiting messages.

        An actor without `on_start` is idle at once: a turn for nothing costs as much as a short message.
        """
        actor: Any = inbox.actor
        with self.lock:
            if type(actor).on_start is Actor.on_start and not inbox.queue:
                inbox.queue = None
                inbox.state = IDLE
                return
            inbox.queue = inbox.queue if inbox.queue is not None else deque()
            inbox.queue.appendleft(Control(Order.START))
            self.received += 1
            self.ready_up(inbox)

    def suspend(self, inbox: Inbox) -> None:
        """Give an actor's inbox no turns."""
        with self.lock:
            inbox.queue = inbox.queue or deque()
            inbox.state = SUSPENDED

    def fail(self, inbox: Inbox, envelope: Envelope[Any], error: BaseException) -> None:
        """Answer the asker. If the failure concerns the actor, hand it to the supervisor."""
        consequences = self._consequences(inbox, envelope, error)
        if consequences is not None:
            self._occupy(inbox, self._bear(inbox, consequences), HOOK)

    def passivate(self, inbox: Inbox) -> bool:
        """End the actor now if it is idle; see `LoopRef.stop_if_idle`."""
        with self.lock:
            if inbox.state != IDLE or inbox.entered:
                return False
            actor = cast("LoopActor", inbox.actor)
            bury = self._bury(inbox, Reason.IDLE)
        pending = actor._stop()  # noqa: SLF001  pykka's own
        if pending is not None:
            task = self.loop.create_task(pending)
            self._background.add(task)
            task.add_done_callback(self._background.discard)
        bury()
        return True

    def end(self, inbox: Inbox, reason: Reason) -> None:
        """End an actor. Its inbox refuses messages; waiting ones are answered or counted."""
        with self.lock:
            if inbox.state == DEAD:
                return
            bury = self._bury(inbox, reason)
        bury()

    def dead_letter(self, actor: str, envelope: Envelope[Any], why: str) -> None:
        """Answer or count a message that will not be handled."""
        self._letters.take(actor, envelope, why)

    def _take_turn(self, inbox: Inbox, end_s: float) -> None:
        inbox.state = RUNNING
        for _ in range(self._throughput):
            if not inbox.queue:
                break
            envelope = inbox.queue.popleft()
            self._taken += 1
            if inbox.waiting is not None:
                with self.lock:
                    inbox.admit()
            pending = self._handle(inbox, envelope)
            if pending is not None:
                self._wait_for(inbox, envelope, pending)
                return  # in any state: an eager task may have released it already
            if inbox.state != RUNNING:
                return
            if inbox.stopped is True:
                self.end(inbox, Reason.STOPPED)
                return
            if not inbox.queue or self.loop.time() >= end_s:
                break
        self._settle(inbox)

    def _handle(self, inbox: Inbox, envelope: Envelope[Any]) -> Coroutine[Any, Any, Any] | None:
        """Handle one message. The coroutine of an async handler is returned."""
        actor: Any = inbox.actor  # no `cast`: it is a call
        try:
            if isinstance(envelope, Control):
                if isinstance(envelope, Urgent):
                    result = actor.on_urgent(envelope.message)
                    if iscoroutine(result):
                        refuse_async(inbox, result)
                else:
                    result = self._obey(inbox, actor, envelope.message)
            else:
                result = actor._handle_receive(envelope.message)  # noqa: SLF001  pykka's own
            if result is not None and iscoroutine(result):
                return result
            if envelope.reply_to is not None:
                answer(envelope, result)
        except BaseException as error:  # noqa: BLE001  one actor's failure is no other's
            self.fail(inbox, envelope, error)
        return None

    def _obey(self, inbox: Inbox, actor: LoopActor, order: Order) -> Any:
        match order:
            case Order.START:
                return actor.on_start()  # may be a coroutine
            case Order.STOP_NOW if inbox.has_extras and inbox.extras.timer is not None:
                actor._end()  # noqa: SLF001  it has failed, and on_failure has run
                return None
            case Order.STOP_NOW:
                return actor._stop()  # noqa: SLF001  pykka's own

    def _wait_for(self, inbox: Inbox, envelope: Envelope[Any], pending: Coroutine[Any, Any, Any]) -> None:
        """Finish the handling of a message whose handler is async."""
        state = HOOK if isinstance(envelope, Control) else BUSY
        self._occupy(inbox, self._resume(inbox, envelope, pending), state)

    def _occupy(self, inbox: Inbox, work: Coroutine[Any, Any, None], state: int) -> None:
        """Give an inbox no turns until `work` has ended."""
        inbox.state = state
        inbox.task = None  # until an eager task was suspended for the first time
        task = self.loop.create_task(work)
        if not task.done():  # an eager task may be done
            inbox.task = task

    async def _resume(self, inbox: Inbox, envelope: Envelope[Any], pending: Coroutine[Any, Any, Any]) -> None:
        if inbox.has_extras and inbox.extras.fault is not None:  # an urgent message failed before this began
            pending.close()
            pending = _cancelled()
        try:
            result = await pending
        except GeneratorExit:  # the loop was closed under a suspended handler
            raise
        except BaseException as error:  # noqa: BLE001  one actor's failure is no other's
            consequences = self._cut_short(inbox, envelope, error)
            if consequences is not None:
                inbox.state = HOOK
                await consequences
        else:
            answer(envelope, result)
            if inbox.has_extras and (consequences := self._of_fault(inbox)) is not None:
                await consequences
        # Breaks a cycle: an error's traceback holds this frame, and the envelope's future holds the error.
        del envelope
        self._release(inbox)

    async def _bear(self, inbox: Inbox, consequences: Coroutine[Any, Any, None]) -> None:
        await consequences
        self._release(inbox)

    def _release(self, inbox: Inbox) -> None:
        inbox.task = None
        if inbox.state not in (BUSY, HOOK):
            return  # the supervisor has decided
        if inbox.stopped is True:
            self.end(inbox, Reason.STOPPED)
        else:
            self._settle(inbox)

    def _cut_short(
        self, inbox: Inbox, envelope: Envelope[Any], error: BaseException
    ) -> Coroutine[Any, Any, None] | None:
        """The consequences of an async handler's end by `error`, or by the fault of an urgent message."""
        if not inbox.has_extras or inbox.extras.fault is None:
            return self._consequences(inbox, envelope, error)
        actor = str(inbox.actor)
        if envelope.reply_to is None:
            self.dead_letter(type(inbox.actor).__name__, envelope, "cut short")
        else:
            cancelled = isinstance(error, asyncio.CancelledError)
            refuse(envelope, HandlerCancelled(f"{actor} was cancelled") if cancelled else error)
        return self._of_fault(inbox)

    def _of_fault(self, inbox: Inbox) -> Coroutine[Any, Any, None] | None:
        """The consequences of an urgent message that failed while a handler was suspended."""
        fault, inbox.extras.fault = inbox.extras.fault, None
        return None if fault is None else self._consequences(inbox, *fault)

    def _consequences(
        self, inbox: Inbox, envelope: Envelope[Any], error: BaseException
    ) -> Coroutine[Any, Any, None] | None:
        actor = cast("LoopActor", inbox.actor)
        if not isinstance(error, Exception | asyncio.CancelledError):
            # As in pykka, a BaseException that is not an Exception stops all actors.
            _log.debug("%r in %s. Stopping all actors.", error, actor)
            refuse(envelope, ActorDeadError(f"{actor} was stopped by {type(error).__name__}"))
            pending = actor._stop()  # noqa: SLF001  pykka's own
            ActorRegistry.stop_all(block=False)
            return pending if pending is not None else nothing()
        if envelope.reply_to is not None:
            actor._log_answer(error)  # noqa: SLF001  ours
            cancelled = isinstance(error, asyncio.CancelledError)
            refuse(envelope, HandlerCancelled(f"{actor} was cancelled") if cancelled else error)
            return None
        if isinstance(error, asyncio.CancelledError) and inbox.stopped is True:
            return None  # cancelled by the runtime's own end
        return self._supervisor.failed(inbox, envelope, error)

    def _settle(self, inbox: Inbox) -> None:
        """Queue the inbox behind the ready ones if it has messages; else it becomes idle."""
        with self.lock:
            if inbox.waiting is not None:
                inbox.admit()
            if inbox.queue:
                self.ready_up(inbox)
            else:
                inbox.queue = None
                inbox.state = IDLE

    def _bury(self, inbox: Inbox, reason: Reason) -> Callable[[], None]:
        """Make an inbox DEAD, under the lock. Without it, call the result to tell senders."""
        actor = cast("LoopActor", inbox.actor)
        left = inbox.queue or ()
        waiting = inbox.waiting or ()
        extras = inbox.take_extras()
        inbox.queue = inbox.waiting = inbox.actor = inbox.recipe = None
        inbox.state = DEAD
        inbox.reason = reason
        self.alive -= 1
        self._taken += len(left)

        def tell() -> None:
            name = type(actor).__name__
            for envelope in left:
                self._letters.take(name, envelope, reason)
            for envelope, waiter in waiting:
                error = ActorDeadError(f"{name} stopped before there was room")
                if envelope.reply_to is not None:
                    refuse(envelope, error)
                    waiter.set(None)
                else:
                    waiter.set_exception((ActorDeadError, error, None))
            if extras is not None and extras.timer is not None:
                extras.timer.cancel()

        return tell


def refuse_async(inbox: Inbox, result: Coroutine[Any, Any, Any]) -> None:
    """Refuse the result of an async `on_urgent`.

    Raises:
        TypeError: always.
    """
    result.close()
    raise TypeError(f"{type(inbox.actor).__name__}.on_urgent may not be async")


async def nothing() -> None:
    """Consequences that are none."""


async def _cancelled() -> None:
    raise asyncio.CancelledError
