"""`Door`: the two ways past an actor's queue, under the same guard as a turn.

`handle_now` handles a message in the caller's own call if the actor is idle. This saves the scheduler's turn.

`tell_urgent` is the control lane. Such a message is handled in one step, between two messages or while an
async handler is suspended at an `await`. It waits only while code of the actor is on the stack (a handler
that sends to its own actor), while a hook of the actor runs, and between a failure and the restart.

Order: messages of `tell` and `tell_now` keep the order of their sender, and so do urgent messages. Urgent
messages overtake the others.

A handler that is called here runs in its caller's context, not in that of the runtime.
"""

import asyncio
import inspect
from asyncio.events import _get_running_loop
from collections.abc import Coroutine
from typing import Any, cast

from huahuo.actors.actor.inbox import BUSY, HOOK, IDLE, READY, RUNNING, Inbox
from huahuo.actors.actor.loop_actor import LoopActor
from huahuo.actors.actor.messages import Control, Envelope, Reason, Urgent
from huahuo.actors.runtime.dispatcher import Dispatcher, nothing, step


class Door(Dispatcher):
    """See the module. `LoopRef` has the methods for users."""

    def handle_now(self, inbox: Inbox, message: Any) -> bool:
        """See `LoopRef.tell_now`. False: nothing was done."""
        if _get_running_loop() is not self.loop:
            return False
        with self.lock:  # another thread may send at this moment
            if inbox.state != IDLE or inbox.interrupted:
                return False
            inbox.state = RUNNING
        envelope: Envelope[Any] = Envelope(message)
        pending = self._handle(inbox, envelope)
        if pending is not None:
            self._wait_for(inbox, envelope, pending)
        elif inbox.state == RUNNING:
            if inbox.stopped is True:
                self.end(inbox, Reason.STOPPED)
            else:
                self._settle(inbox)
        return True

    def tell_urgent(self, inbox: Inbox, message: Any) -> None:
        """See `LoopRef.tell_urgent`."""
        if self._is_open(inbox):
            self._interrupt(inbox, message, None)
            return
        inbox.put_urgent(Urgent(message))
        if inbox.state in (RUNNING, BUSY):  # once the stack is unwound, the handler has ended or is suspended
            self.loop.call_soon(self._serve, inbox)

    def try_urgent(self, inbox: Inbox, message: Any, otherwise: Any) -> Any:
        """See `LoopRef.try_urgent`."""
        return self._interrupt(inbox, message, otherwise) if self._is_open(inbox) else otherwise

    def _serve(self, inbox: Inbox) -> None:
        """Handle urgent messages that wait although the handler before them is suspended."""
        while (
            inbox.state == BUSY and inbox.queue and isinstance(inbox.queue[0], Urgent) and _suspended(inbox)
        ):
            envelope = inbox.queue.popleft()
            self._taken += 1
            self._interrupt(inbox, envelope.message, None)

    def _is_open(self, inbox: Inbox) -> bool:
        """Whether an urgent message may be handled in this call."""
        if _get_running_loop() is not self.loop:
            raise RuntimeError("an urgent message must be sent on the actor's own loop")
        if inbox.interrupted:
            return False
        state, queue = inbox.state, inbox.queue
        if state == IDLE:
            return True
        if state == READY:  # the runtime's orders (a start, a stop) and earlier urgent messages go first
            return not (queue and isinstance(queue[0], Control))
        return state == BUSY and not (queue and isinstance(queue[0], Urgent)) and _suspended(inbox)

    def _interrupt(self, inbox: Inbox, message: Any, otherwise: Any) -> Any:
        inbox.interrupted = True
        try:
            return step(cast("LoopActor", inbox.actor), message)
        except BaseException as error:  # noqa: BLE001  one actor's failure is no other's
            self._fail_urgent(inbox, Urgent(message), error)
            return otherwise
        finally:
            inbox.interrupted = False

    def _fail_urgent(self, inbox: Inbox, envelope: Urgent, error: BaseException) -> None:
        """Fail the actor. If a handler is suspended, that is cancelled first."""
        turn = inbox.task if inbox.state == BUSY else None
        with self.lock:  # from now on, another thread's message only waits
            inbox.state = HOOK
        if turn is None:
            consequences = self._consequences(inbox, envelope, error)
            self._occupy(inbox, self._bear(inbox, consequences or nothing()), HOOK)
            return
        inbox.extras.fault = envelope, error
        # A task that has not begun would end without running `_resume`, which sees the fault by itself.
        if inspect.getcoroutinestate(_coroutine(turn)) != inspect.CORO_CREATED:
            turn.cancel()


def _suspended(inbox: Inbox) -> bool:
    """Whether the async handler of a BUSY inbox waits, so that its code is not on the stack."""
    return inbox.task is not None and not _coroutine(inbox.task).cr_running


def _coroutine(task: "asyncio.Task[None]") -> Any:
    return cast("Coroutine[Any, Any, None]", task.get_coro())
