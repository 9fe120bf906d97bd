"""`Door`: the three ways past an actor's queue, under the same guard as a turn.

`handle_now` handles a message in the caller's own call if the actor is idle. This saves the scheduler's turn.

`tell_urgent` is the control lane. Such a message is handled in one step, between two messages or while an
async handler is suspended at an `await`. It waits only while code of the actor is on the stack (a handler
that sends to its own actor), while a hook of the actor runs, and between a failure and the restart.

`hold` gives an idle actor to its caller, who works with it over several steps of the loop and then lets it
go. For the actor that is as a message whose handler is async.

Order: messages of `tell` and `tell_now` keep the order of their sender, and so do urgent messages. Urgent
messages overtake the others.

A handler that is called here runs in its caller's context, not in that of the runtime.
"""

import asyncio
import inspect
from asyncio.events import _get_running_loop
from collections.abc import Coroutine, Iterable
from types import CoroutineType
from typing import Any, cast

from huahuo.actors.actor.inbox import BUSY, HOOK, IDLE, READY, RUNNING, Inbox
from huahuo.actors.actor.loop_actor import LoopActor
from huahuo.actors.actor.messages import Control, Envelope, Reason, Urgent
from huahuo.actors.runtime.dispatcher import Dispatcher, nothing, refuse_async


class Door(Dispatcher):
    """See the module. `LoopRef` has the methods for users."""

    def handle_now(self, inbox: Inbox, message: Any) -> bool:
        """See `LoopRef.tell_now`. False: nothing was done."""
        if _get_running_loop() is not self.loop:
            return False
        if inbox.state != IDLE or inbox.entered:
            return False
        # Without the lock, so the state stays IDLE: a message that another thread or the handler itself sends
        # meanwhile gives the inbox a turn, which cannot begin before this call has ended.
        inbox.entered = True
        try:
            actor: Any = inbox.actor  # no `cast`: it is a call
            result = actor._handle_receive(message)  # noqa: SLF001  pykka's own
            if result.__class__ is CoroutineType:
                with self.lock:
                    inbox.state = BUSY
                self._wait_for(inbox, Envelope(message), result)
            elif inbox.stopped is True:
                self.end(inbox, Reason.STOPPED)
        except BaseException as error:  # noqa: BLE001  one actor's failure is no other's
            self._fail_now(inbox, Envelope(message), error)
        finally:
            inbox.entered = False
        return True

    def hold(self, inbox: Inbox) -> LoopActor | None:
        """The actor, if it is idle: it handles no message until `let_go`. Only on its own loop."""
        if inbox.state != IDLE or inbox.entered:
            return None
        with self.lock:
            if inbox.state != IDLE:  # another thread has just sent a message
                return None
            inbox.state = BUSY
        inbox.task = None
        actor: Any = inbox.actor  # no `cast`: it is a call
        return actor  # type: ignore[no-any-return]

    def let_go(self, inbox: Inbox) -> None:
        """The end of `hold`."""
        if inbox.state == BUSY and inbox.stopped is not True:
            with self.lock:
                if not inbox.queue and inbox.waiting is None:
                    inbox.queue = None
                    inbox.state = IDLE
                    return
        self._release(inbox)

    def let_go_all(self, inboxes: Iterable[Inbox]) -> None:
        """As `let_go`, of many: those without messages take the lock once."""
        others: list[Inbox] = []
        with self.lock:
            for inbox in inboxes:
                if (
                    inbox.state == BUSY
                    and inbox.stopped is not True
                    and not inbox.queue
                    and inbox.waiting is None
                ):
                    inbox.queue = None
                    inbox.state = IDLE
                else:
                    others.append(inbox)
        for inbox in others:
            self._release(inbox)

    def tell_urgent(self, inbox: Inbox, message: Any) -> None:
        """See `LoopRef.tell_urgent`."""
        if self._open(inbox):
            self.interrupt(inbox, message, None)
            return
        inbox.put_urgent(Urgent(message))
        if inbox.entered or inbox.state in (RUNNING, BUSY):
            # In the loop's next turn, the handler that is on the stack has ended or is suspended.
            self.loop.call_soon(self._open, inbox)

    def try_urgent(self, inbox: Inbox, message: Any, otherwise: Any) -> Any:
        """See `LoopRef.try_urgent`."""
        idle = inbox.state == IDLE and not inbox.entered and _get_running_loop() is self.loop
        return self.interrupt(inbox, message, otherwise) if idle or self._open(inbox) else otherwise

    def _open(self, inbox: Inbox) -> bool:
        """Handle the urgent messages that wait. True: one more may be handled in this call."""
        if _get_running_loop() is not self.loop:
            raise RuntimeError("an urgent message must be sent on the actor's own loop")
        if inbox.entered:
            return False
        state = inbox.state
        if state == IDLE:
            return True
        if state != READY and not (state == BUSY and _suspended(inbox)):
            return False
        while inbox.queue and isinstance(inbox.queue[0], Urgent):
            envelope = inbox.queue.popleft()
            self._taken += 1
            self.interrupt(inbox, envelope.message, None)
            if inbox.state != state:  # it has failed
                return False
        # The runtime's orders, such as a start or a stop, go first.
        return state == BUSY or not (inbox.queue and isinstance(inbox.queue[0], Control))

    def interrupt(self, inbox: Inbox, message: Any, otherwise: Any) -> Any:
        """See `Host.interrupt`. The caller knows that none of the actor's code is on the stack."""
        inbox.entered = True
        try:
            actor: Any = inbox.actor  # no `cast`: it is a call
            result = actor.on_urgent(message)
            if result.__class__ is CoroutineType:
                refuse_async(inbox, result)
        except BaseException as error:  # noqa: BLE001  one actor's failure is no other's
            self._fail_urgent(inbox, Urgent(message), error)
            return otherwise
        finally:
            inbox.entered = False
        return result

    def _fail_now(self, inbox: Inbox, envelope: Envelope[Any], error: BaseException) -> None:
        """Fail an actor of which no async handler is suspended."""
        with self.lock:  # from now on, another thread's message gives no turn
            inbox.state = HOOK
        consequences = self._consequences(inbox, envelope, error)
        self._occupy(inbox, self._bear(inbox, consequences or nothing()), HOOK)

    def _fail_urgent(self, inbox: Inbox, envelope: Urgent, error: BaseException) -> None:
        """Fail the actor. If a handler is suspended, that is cancelled first."""
        turn = inbox.task if inbox.state == BUSY else None
        if turn is None:
            self._fail_now(inbox, envelope, error)
            return
        inbox.state = HOOK
        inbox.extras.fault = envelope, error
        # A task that has not begun would end without running `_resume`, which sees the fault by itself.
        if inspect.getcoroutinestate(_coroutine(turn)) != inspect.CORO_CREATED:
            turn.cancel()


def _suspended(inbox: Inbox) -> bool:
    """Whether the async handler of a BUSY inbox waits, so that its code is not on the stack."""
    return inbox.task is not None and not _coroutine(inbox.task).cr_running


def _coroutine(task: "asyncio.Task[None]") -> Any:
    return cast("Coroutine[Any, Any, None]", task.get_coro())
