"""`LoopActor`: pykka's Actor on an asyncio loop, without a thread or a task while it is idle."""

import logging
import sys
from collections.abc import Coroutine
from inspect import iscoroutine
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self, cast

import structlog
from pykka import Actor
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop  # private: ends an actor

from huahuo.actors.actor import refs
from huahuo.actors.actor.inbox import Host, Inbox
from huahuo.actors.actor.messages import LoopFuture, where
from huahuo.actors.actor.refs import Flag, LoopRef
from huahuo.actors.actor.restart import Stop, Supervision

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
