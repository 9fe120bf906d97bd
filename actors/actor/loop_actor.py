"""`LoopActor`: pykka's Actor on an asyncio loop, without a thread or a task while it is idle.

Carries out the decision about a failed actor: restart in place, or stop.

`huahuo.actors.actor.restart` decides. This module has the timer, the hooks, the log lines and the swap of
the actor object. Log lines name types, never an exception's text, which may quote a secret.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from inspect import iscoroutine
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self, assert_never, cast

import structlog
from pykka import Actor
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop  # private: ends an actor

from huahuo.actors.actor import refs
from huahuo.actors.actor.inbox import SUSPENDED, Host, Inbox
from huahuo.actors.actor.messages import Control, Envelope, LoopFuture, Order, Reason, Urgent, where
from huahuo.actors.actor.refs import Flag, LoopRef
from huahuo.actors.actor.restart import GiveUp, Restart, RestartAfter, Stop, Supervision, after_failure
from huahuo.eventstore.ambient import Ambient

_PYKKAS = (_ActorStop, ProxyCall, ProxyGetAttr, ProxySetAttr)
_log = logging.getLogger("pykka")
_events = structlog.get_logger("actors")


class Starter(Host, Protocol):
    """The part of a runtime that actor classes use."""

    def start[A: LoopActor](self, actor_class: type[A], *args: Any, **kwargs: Any) -> LoopRef[A]:
        """Start an actor there."""
        ...

    def begin(self, inbox: Inbox) -> None:
        """Give a new inbox its first turn."""
        ...


class LoopActor(Actor):
    """pykka's Actor. `on_start`, `on_stop`, `on_failure`, `on_receive` and all other methods may be async.

    It handles one message at a time, even across `await`. Start with `runtime.start(TheClass, ...)`, or set
    `runtime` on the class and use pykka's own `TheClass.start(...)`.
    """

    runtime: ClassVar[Starter | None] = None
    """The runtime of `start()`, which has no argument for it."""

    inbox_limit: ClassVar[int] = 256
    """At most this many messages wait in the inbox; 0: no limit."""

    supervision: ClassVar[Supervision] = Stop()
    """The policy for unhandled exceptions."""

    ref_class: ClassVar[type[LoopRef[Any]]] = LoopRef
    """The class of this actor's refs. A subclass may give messages the form of methods."""

    _actor_ref: LoopRef[Any]

    log_exception_text: ClassVar[bool] = False
    """Whether failures are logged as in pykka, with the traceback and the exception's text.

    False: only type and place, because the text may quote a secret.
    """

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> LoopRef[Self]:
        """Start an actor on the class's `runtime`. See `pykka.Actor.start`.

        Raises:
            RuntimeError: the class has no runtime.
        """
        return cls._default_runtime().start(cls, *args, **kwargs)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # Not Actor.__init__, which would generate a UUID and make a threading.Event. And no use of
        # `__dict__`, which would stay as one more object for each actor.
        inbox: Inbox = getattr(self, "actor_inbox", None) or self._create_actor_inbox()
        self.actor_inbox: Inbox = inbox
        previous = inbox.actor
        inbox.actor = self
        if isinstance(previous, LoopActor):  # a restart: the same actor in a new object
            self._actor_ref = cast("LoopRef[Any]", previous.actor_ref)
        else:
            self._actor_ref = self.ref_class(self, inbox)

    @property
    def actor_ref(self) -> LoopRef[Self]:
        """The actor's own ref."""
        return self._actor_ref

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # drawn when it is first read
        """See `pykka.Actor.actor_urn`."""
        return self._actor_ref.actor_urn

    @property
    def actor_stopped(self) -> Flag:  # type: ignore[override]  # as much of an Event as pykka uses
        """See `pykka.Actor.actor_stopped`."""
        return Flag(self.actor_inbox)

    @classmethod
    def _default_runtime(cls) -> Starter:
        if cls.runtime is None:
            raise RuntimeError(f"no runtime: use runtime.start({cls.__name__}) or set {cls.__name__}.runtime")
        return cls.runtime

    def _create_actor_inbox(self) -> Inbox:  # type: ignore[override]  # called on the instance
        return Inbox(self._default_runtime(), self.inbox_limit)

    @staticmethod
    def _create_future() -> LoopFuture[Any]:
        return LoopFuture()

    def _start_actor_loop(self) -> None:
        cast("Starter", self.actor_inbox.runtime).begin(self.actor_inbox)

    def on_receive(self, message: Any) -> Any:
        """See `pykka.Actor.on_receive`. The log line has only the message's type, not its content."""
        _log.warning("Unexpected message received by %s: %s", self, type(message).__name__)

    def on_urgent(self, message: Any) -> Any:
        """Handle a message of `LoopRef.tell_urgent` in one step: this may not be async.

        It may come while `on_receive` is suspended at an `await`, so that state may change between its steps.
        """
        raise TypeError(f"{type(self).__name__} takes no urgent messages, as {type(message).__name__} is")

    def _handle_receive(self, message: Any) -> Any:
        """As pykka's, with one check in place of its four: few messages are of pykka's own types."""
        if isinstance(message, _PYKKAS):
            return super()._handle_receive(message)
        return self.on_receive(message)

    def _stop(self) -> Coroutine[Any, Any, None] | None:  # type: ignore[override]
        """End the actor without handling its inbox. Returns the coroutine of an async `on_stop`."""
        self._end()
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("Stopped %s", self)
        try:
            pending = cast("object", self.on_stop())
        except Exception:  # noqa: BLE001  on_stop is user code
            self._handle_failure(*sys.exc_info())
            return None
        return self._finish(pending) if iscoroutine(pending) else None

    async def _finish(self, on_stop: Coroutine[Any, Any, None]) -> None:
        try:
            await on_stop
        except Exception:  # noqa: BLE001  on_stop is user code
            self._handle_failure(*sys.exc_info())

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Log that an exception ends this actor, unregister and stop it."""
        if self.log_exception_text or exception_value is None:
            super()._handle_failure(exception_type, exception_value, traceback)
            return
        name = type(exception_value).__name__
        _events.error("actor_failed", actor=str(self), error=name, at=where(exception_value))
        self._end()

    def _log_answer(self, error: BaseException) -> None:
        """Log that an ask was answered with an exception."""
        if self.log_exception_text:
            _log.info("Exception returned from %s to caller:", self, exc_info=error)
        elif _log.isEnabledFor(logging.INFO):
            name = type(error).__name__
            _log.info("Exception returned from %s to caller: %s at %s", self, name, where(error))

    def _keep_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the arguments that `_arguments` returns after a failure."""
        self.actor_inbox.recipe = (args, kwargs)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for this actor's successor, when it is restarted."""
        assert self.actor_inbox.recipe is not None
        return self.actor_inbox.recipe

    def _end(self) -> None:
        refs.unregister(self.actor_ref)
        self.actor_inbox.stop()


def build[A: LoopActor](
    actor_class: type[A], inbox: Inbox, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> A:
    """Make an actor object for an inbox. If the inbox has an actor, the new one succeeds it."""
    actor: A = actor_class.__new__(actor_class, *args, **kwargs)
    actor.actor_inbox = inbox
    actor.__init__(*args, **kwargs)  # type: ignore[misc]
    return actor


_supervisor_log = structlog.get_logger("actors")


class Lifecycle(Protocol):
    """The part of the runtime that the supervisor uses."""

    loop: asyncio.AbstractEventLoop
    ambient: Ambient
    restarts: int

    def end(self, inbox: Inbox, reason: Reason) -> None:
        """End an actor."""
        ...

    def suspend(self, inbox: Inbox) -> None:
        """Give an actor's inbox no turns."""
        ...

    def begin(self, inbox: Inbox) -> None:
        """Start the inbox's actor, and then let it handle waiting messages."""
        ...

    def fail(self, inbox: Inbox, envelope: Envelope[Any], error: BaseException) -> None:
        """Hand a failure to the supervisor."""
        ...

    def dead_letter(self, actor: str, envelope: Envelope[Any], why: str) -> None:
        """Answer or count a message that will not be handled."""
        ...


class Supervisor:
    """Each runtime has one. All methods run on its loop."""

    def __init__(self, world: Lifecycle) -> None:
        self._world = world

    async def failed(self, inbox: Inbox, envelope: Envelope[Any], error: BaseException) -> None:
        """Decide about an actor whose handling of `envelope` has failed. Leaves it dead or suspended."""
        policy = Stop() if inbox.stopped is True else cast("LoopActor", inbox.actor).supervision
        match policy:
            case Stop():
                await self._end(inbox, envelope, error, Reason.FAILED)
            case Restart():
                await self._restart_or_end(policy, inbox, envelope, error)
            case _:
                assert_never(policy)

    async def _restart_or_end(
        self, policy: Restart, inbox: Inbox, envelope: Envelope[Any], error: BaseException
    ) -> None:
        actor = cast("LoopActor", inbox.actor)
        if not isinstance(envelope, Control) or isinstance(envelope, Urgent):
            self._world.dead_letter(type(actor).__name__, envelope, "poison")
        world = self._world
        verdict = after_failure(policy, inbox.extras.failures, world.loop.time(), world.ambient.random())
        inbox.extras.failures = verdict.failures
        failures = len(verdict.failures)
        match verdict:
            case GiveUp():
                await self._end(inbox, envelope, error, Reason.GAVE_UP)
                why = f"{type(error).__name__}, {failures} failures in {policy.window_s:g} s"
                _supervisor_log.error("actor_gave_up", actor=str(actor), reason=why)
            case RestartAfter(delay_s):
                _supervisor_log.warning(
                    "actor_restarts",
                    actor=str(actor),
                    error=type(error).__name__,
                    at=where(error),
                    failures=failures,
                    delay_s=round(delay_s, 3),
                )
                if (trouble := await self._on_failure(actor, envelope, error)) is not None:
                    _log_hook(actor, trouble)
                world.suspend(inbox)
                inbox.extras.timer = world.loop.call_later(delay_s, self._swap, inbox)
            case _:
                assert_never(verdict)

    def _swap(self, inbox: Inbox) -> None:
        """Put a new actor object behind the same inbox and let it start."""
        if inbox.state != SUSPENDED:
            return
        inbox.extras.timer = None
        self._world.restarts += 1
        previous = cast("LoopActor", inbox.actor)
        args, kwargs = previous._arguments()  # noqa: SLF001  ours
        try:
            build(type(previous), inbox, args, kwargs)
        except Exception as error:  # noqa: BLE001  __init__ is user code
            self._world.fail(inbox, Control(Order.START), error)
        else:
            self._world.begin(inbox)

    async def _end(self, inbox: Inbox, envelope: Envelope[Any], error: BaseException, reason: Reason) -> None:
        """End an actor after an exception as pykka does: log, unregister, on_failure."""
        actor = cast("LoopActor", inbox.actor)
        actor._handle_failure(type(error), error, error.__traceback__)  # noqa: SLF001  pykka's own
        if (trouble := await self._on_failure(actor, envelope, error)) is not None:
            actor._handle_failure(type(trouble), trouble, trouble.__traceback__)  # noqa: SLF001
        self._world.end(inbox, reason)

    async def _on_failure(
        self, actor: LoopActor, envelope: Envelope[Any], error: BaseException
    ) -> BaseException | None:
        """Run the actor's hook. As in pykka, an actor that could not start has none."""
        if isinstance(envelope, Control) and envelope.message is Order.START:
            return None
        return await _hook(lambda: actor.on_failure(type(error), error, error.__traceback__))


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
    _supervisor_log.error(
        "actor_hook_failed", actor=str(actor), error=type(trouble).__name__, at=where(trouble)
    )
