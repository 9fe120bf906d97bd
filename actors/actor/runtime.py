"""`Runtime`: starts, schedules, counts, restarts and stops actors on one loop. A process may have several.

If a handler returns a coroutine, a task runs it, and the inbox is BUSY until it has ended, so an actor
handles one message at a time. There are ways past the queue: `handle_now` handles a message in the caller's
own call if the actor is idle. `tell_urgent` handles one between two messages, or while an async handler is
suspended at an `await`: it waits only while code or a hook of the actor is on the stack, and between a
failure and the restart. `hold` gives an idle actor to its caller for several steps of the loop, as a message
whose handler is async. Messages of `tell` and `tell_now` keep the order of their sender, and so do urgent
ones, which overtake the others. A handler that is called past the queue runs in its caller's context, not in
that of the runtime. Invariant: every message is handled, or its sender is told (ActorDeadError), or it is
counted as a dead letter.

`huahuo.actors.actor.restart` decides about a failed actor, and the runtime carries that out. Log lines name
types, never an exception's text, which may quote a secret.
"""

import asyncio
import contextlib
import inspect
import logging
import threading
from asyncio.events import _get_running_loop
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from inspect import iscoroutine
from types import CoroutineType
from typing import Any, Final, assert_never, cast

import structlog
from pykka import Actor, ActorDeadError, ActorRegistry

from huahuo.actors.actor import refs
from huahuo.actors.actor.inbox import (
    BUSY,
    DEAD,
    HOOK,
    IDLE,
    READY,
    RUNNING,
    SUSPENDED,
    Choice,
    Inbox,
    Scheduler,
)
from huahuo.actors.actor.loop_actor import LoopActor, build
from huahuo.actors.actor.messages import (
    Control,
    DeadLetter,
    DeadLetters,
    Envelope,
    HandlerCancelled,
    Order,
    Reason,
    Urgent,
    answer,
    forbid_blocking,
    refuse,
    where,
)
from huahuo.actors.actor.refs import LoopRef
from huahuo.actors.actor.restart import GiveUp, Restart, RestartAfter, Stop, after_failure
from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.eventstore.deadline import cancel_all

_log = logging.getLogger("pykka")
_events = structlog.get_logger("actors")


THROUGHPUT: Final = 32
SLICE_S: Final = 0.002
# A cancelled handler may take this long to clean up.
CANCEL_TIMEOUT_S: Final = 1.0


class Runtime:
    """Starts actors on one loop.

    Args:
        loop: The loop to run on. None: a new loop on its own thread, until `close()`.
        ambient: The source of ids and jitter.
        rng: Seeded mode: a turn is one message, and chance picks the next inbox.
        throughput: At most this many messages of one actor before the next actor's turn.
        slice_s: Actors hold the loop at most this long before sockets and timers have it.

    Attributes:
        alive: Actors that have not ended.
        restarts: Restarts so far.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        ambient: Ambient | None = None,
        rng: Choice | None = None,
        throughput: int = THROUGHPUT,
        slice_s: float = SLICE_S,
    ) -> None:
        refs.install()
        self.loop = loop or asyncio.new_event_loop()
        self.ambient = ambient or SystemAmbient()
        self._scheduler = Scheduler(self.loop, self._take_turn, slice_s, rng)
        self.lock = self._scheduler.lock
        self.ready_up = self._scheduler.ready_up
        self.alive = 0
        self.restarts = 0
        self._letters = DeadLetters()
        self.received = 0  # messages put into inboxes; changed under the lock
        self._taken = 0  # messages taken out of inboxes; changed on the loop
        self._throughput = throughput if rng is None else 1
        self._background: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        if loop is None:
            self._thread = threading.Thread(target=self.loop.run_forever, name="actors", daemon=True)
            self._thread.start()

    @property
    def dead_letters(self) -> int:
        """The number of messages that were not handled and whose sender was not told."""
        return self._letters.count

    @property
    def recent_dead_letters(self) -> tuple[DeadLetter, ...]:
        """The last few dead letters, with type names."""
        return tuple(self._letters.recent)

    @property
    def queued(self) -> int:
        """The number of messages that wait in all inboxes."""
        return self.received - self._taken

    @property
    def resting(self) -> bool:
        """Whether no inbox waits for its turn. Suspended handlers do not count."""
        return self._scheduler.resting

    def start[A: LoopActor](self, actor_class: type[A], *args: Any, **kwargs: Any) -> LoopRef[A]:
        """Start an actor with these arguments for its class. Callable from any thread."""
        if self.loop.is_closed():
            raise RuntimeError("the runtime's loop is closed")
        inbox = Inbox(self, actor_class.inbox_limit)
        actor = build(actor_class, inbox, args, kwargs)
        if isinstance(actor_class.supervision, Restart):
            actor._keep_arguments(args, kwargs)  # noqa: SLF001  ours
        refs.register(actor.actor_ref)
        with self.lock:
            self.alive += 1
        actor._start_actor_loop()  # noqa: SLF001  pykka's own
        return actor.actor_ref

    async def stop(self, timeout_s: float = 10.0) -> bool:
        """Ask every actor to stop after the messages in its inbox, the last started first.

        After `timeout_s`, running handlers are cancelled and waiting messages are answered with
        ActorDeadError. True: no handler had to be cancelled. Await it on the runtime's own loop, but not in
        one of its actors, which would wait for itself.

        Raises:
            RuntimeError: this is another loop.
        """
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("stop() belongs on the runtime's own loop")
        refs = self._refs()
        stopping = [ref.stop(block=False) for ref in refs]
        for ref in refs:
            if ref.actor_inbox.state == SUSPENDED:
                ref.stop_now()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for stopped in stopping:
                    await stopped
                while self._background:
                    await asyncio.wait(self._background)
        stragglers = self._refs()
        running = set(self._background)
        for ref in stragglers:
            running |= self._abort(ref)
        await cancel_all(running, CANCEL_TIMEOUT_S)
        return not running and not stragglers

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop every actor and end the runtime's own loop and thread. Call it on a thread without a loop.

        Raises:
            RuntimeError: the loop was handed in, or this thread runs a loop.
        """
        forbid_blocking("close()")
        if self._thread is None:
            raise RuntimeError("the loop belongs to the caller: await stop() there")
        asyncio.run_coroutine_threadsafe(self.stop(timeout_s), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

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

    def _fail(self, inbox: Inbox, envelope: Envelope[Any], error: BaseException) -> None:
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
            self._fail(inbox, envelope, error)
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
            self._letters.take(type(inbox.actor).__name__, envelope, "cut short")
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
        return self._supervise(inbox, envelope, error)

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

    async def _supervise(self, inbox: Inbox, envelope: Envelope[Any], error: BaseException) -> None:
        """Decide about an actor whose handling of `envelope` has failed. Leaves it dead or suspended."""
        policy = Stop() if inbox.stopped is True else cast("LoopActor", inbox.actor).supervision
        match policy:
            case Stop():
                await self._end_failed(inbox, envelope, error, Reason.FAILED)
            case Restart():
                await self._restart_or_end(policy, inbox, envelope, error)
            case _:
                assert_never(policy)

    async def _restart_or_end(
        self, policy: Restart, inbox: Inbox, envelope: Envelope[Any], error: BaseException
    ) -> None:
        actor = cast("LoopActor", inbox.actor)
        if not isinstance(envelope, Control) or isinstance(envelope, Urgent):
            self._letters.take(type(actor).__name__, envelope, "poison")
        verdict = after_failure(policy, inbox.extras.failures, self.loop.time(), self.ambient.random())
        inbox.extras.failures = verdict.failures
        failures = len(verdict.failures)
        match verdict:
            case GiveUp():
                await self._end_failed(inbox, envelope, error, Reason.GAVE_UP)
                why = f"{type(error).__name__}, {failures} failures in {policy.window_s:g} s"
                _events.error("actor_gave_up", actor=str(actor), reason=why)
            case RestartAfter(delay_s):
                _events.warning(
                    "actor_restarts",
                    actor=str(actor),
                    error=type(error).__name__,
                    at=where(error),
                    failures=failures,
                    delay_s=round(delay_s, 3),
                )
                if (trouble := await self._on_failure(actor, envelope, error)) is not None:
                    _log_hook(actor, trouble)
                with self.lock:
                    inbox.queue = inbox.queue or deque()
                    inbox.state = SUSPENDED
                inbox.extras.timer = self.loop.call_later(delay_s, self._swap, inbox)
            case _:
                assert_never(verdict)

    def _swap(self, inbox: Inbox) -> None:
        """Put a new actor object behind the same inbox and let it start."""
        if inbox.state != SUSPENDED:
            return
        inbox.extras.timer = None
        self.restarts += 1
        previous = cast("LoopActor", inbox.actor)
        args, kwargs = previous._arguments()  # noqa: SLF001  ours
        try:
            build(type(previous), inbox, args, kwargs)
        except Exception as error:  # noqa: BLE001  __init__ is user code
            self._fail(inbox, Control(Order.START), error)
        else:
            self.begin(inbox)

    async def _end_failed(
        self, inbox: Inbox, envelope: Envelope[Any], error: BaseException, reason: Reason
    ) -> None:
        """End an actor after an exception as pykka does: log, unregister, on_failure."""
        actor = cast("LoopActor", inbox.actor)
        actor._handle_failure(type(error), error, error.__traceback__)  # noqa: SLF001  pykka's own
        if (trouble := await self._on_failure(actor, envelope, error)) is not None:
            actor._handle_failure(type(trouble), trouble, trouble.__traceback__)  # noqa: SLF001
        self.end(inbox, reason)

    async def _on_failure(
        self, actor: LoopActor, envelope: Envelope[Any], error: BaseException
    ) -> BaseException | None:
        """Run the actor's hook. As in pykka, an actor that could not start has none."""
        if isinstance(envelope, Control) and envelope.message is Order.START:
            return None
        return await _hook(lambda: actor.on_failure(type(error), error, error.__traceback__))

    def _refs(self) -> list[LoopRef[Any]]:
        """The live actors of this runtime, the last started first."""
        return [
            ref
            for ref in reversed(ActorRegistry.get_all())
            if isinstance(ref, LoopRef) and ref.actor_inbox.runtime is self
        ]

    def _abort(self, ref: LoopRef[Any]) -> set[asyncio.Task[None]]:
        """End an actor that did not stop. Returns its running tasks, to be cancelled."""
        inbox = ref.actor_inbox
        refs.unregister(ref)
        inbox.stop()
        if inbox.state in (BUSY, HOOK) and inbox.task is not None:
            return {inbox.task}
        self.end(inbox, Reason.STOPPED)
        return set()


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


def _suspended(inbox: Inbox) -> bool:
    """Whether the async handler of a BUSY inbox waits, so that its code is not on the stack."""
    return inbox.task is not None and not _coroutine(inbox.task).cr_running


def _coroutine(task: "asyncio.Task[None]") -> Any:
    return cast("Coroutine[Any, Any, None]", task.get_coro())


async def _hook(hook: Callable[[], object]) -> BaseException | None:
    """Call a hook of user code, sync or async, and return the exception that it raises."""
    try:
        pending = hook()
        if iscoroutine(pending):
            await pending
    except (Exception, asyncio.CancelledError) as trouble:  # noqa: BLE001
        return trouble
    return None


def _log_hook(actor: LoopActor, trouble: BaseException) -> None:
    _events.error("actor_hook_failed", actor=str(actor), error=type(trouble).__name__, at=where(trouble))
