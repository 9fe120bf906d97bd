"""`LoopRef`: pykka's ActorRef, plus what only a loop can offer, and `ask` for the outer edge."""

from asyncio.events import _get_running_loop
from collections.abc import Callable
from typing import Any, Final, Literal, cast, overload
from weakref import WeakValueDictionary

from pykka import Actor, ActorDeadError, ActorRef, Future
from pykka.messages import _ActorStop  # private: what ActorRef.stop sends

from huahuo.actors.actor import watch
from huahuo.actors.actor.errors import AskTimeout
from huahuo.actors.actor.future import LoopFuture, derived, forbid_blocking
from huahuo.actors.actor.inbox import Inbox
from huahuo.actors.actor.messages import Control, Envelope, Order, Terminated
from huahuo.actors.actor.restart import Restart
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline

ASK_TIMEOUT_S: Final = 10.0

named: Final[WeakValueDictionary[str, ActorRef[Any]]] = WeakValueDictionary()
"""Refs by URN: those whose URN has been read, be they registered or not."""


class Flag:
    """Shows an inbox's `stopped` as the `threading.Event` that `actor_stopped` is in pykka."""

    __slots__ = ("_inbox",)

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def is_set(self) -> bool:
        """Whether the actor has ended."""
        return self._inbox.stopped is True

    def set(self) -> None:
        """Say that the actor has ended."""
        self._inbox.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until the actor has ended."""
        forbid_blocking("wait()")
        return self._inbox.wait_stopped(timeout)


class LoopRef[A: Actor](ActorRef[A]):
    """A reference to a loop actor; safe to pass around and to use from any thread.

    All but the class lies in the inbox, which outlives the actor: 100,000 actors have a ref each.
    """

    __slots__ = ("actor_class", "actor_inbox")

    def __init__(self, actor: A, inbox: Inbox) -> None:
        # Not ActorRef.__init__: it would keep a weak reference, and copies of what the inbox has.
        self.actor_class = type(actor)
        self.actor_inbox: Inbox = inbox

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # drawn when it is first read
        """See `pykka.ActorRef.actor_urn`."""
        inbox = self.actor_inbox
        with inbox.runtime.lock:  # so that two threads read the same
            if inbox.urn is None:
                inbox.urn = _urn(inbox.runtime.ambient)
                named[inbox.urn] = self
            return inbox.urn

    @property
    def actor_stopped(self) -> Flag:  # type: ignore[override]  # as much of an Event as pykka uses
        """See `pykka.ActorRef.actor_stopped`."""
        return Flag(self.actor_inbox)

    def _actor_weakref(self) -> A | None:  # type: ignore[override]  # called as pykka calls its weak reference
        return cast("A | None", self.actor_inbox.actor)

    def is_alive(self) -> bool:
        """See `pykka.ActorRef.is_alive`."""
        return self.actor_inbox.stopped is not True

    def tell(self, message: Any) -> None:
        """See `pykka.ActorRef.tell`.

        Raises:
            ActorDeadError: the actor is dead.
            InboxFull: there is no room and this thread runs a loop.
        """
        inbox = self.actor_inbox
        if inbox.stopped is True:
            raise ActorDeadError(f"{self} not found")
        inbox.put(Envelope(message))

    @overload
    def ask(
        self, message: Any, *, block: Literal[False], timeout: float | None = None
    ) -> LoopFuture[Any]: ...
    @overload
    def ask(self, message: Any, *, block: Literal[True], timeout: float | None = None) -> Any: ...
    @overload
    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any: ...
    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        """See `pykka.ActorRef.ask`; on a loop use `block=False` and await, or `actors.ask`.

        Raises:
            RuntimeError: a blocking ask on a thread that runs a loop; nothing was sent.
            InboxFull: there is no room and this thread runs a loop.
        """
        if block:
            forbid_blocking("ask()")
        future: LoopFuture[Any] = self.actor_class._create_future()  # type: ignore[assignment]  # noqa: SLF001
        if self.actor_inbox.stopped is True:
            error = ActorDeadError(f"{self} not found")
            future.set_exception((ActorDeadError, error, None))
        else:
            self.actor_inbox.put(Envelope(message, reply_to=future))
        return future.get(timeout=timeout) if block else future

    async def tell_async(self, message: Any) -> None:
        """Send without waiting for an answer, but wait in line for room in the inbox.

        Raises:
            ActorDeadError: the actor is dead, or died before there was room.
        """
        if not self.is_alive():
            raise ActorDeadError(f"{self} not found")
        await self.actor_inbox.put_async(Envelope(message))

    @overload
    def stop(self, *, block: Literal[True], timeout: float | None = None) -> bool: ...
    @overload
    def stop(self, *, block: Literal[False], timeout: float | None = None) -> Future[bool]: ...
    @overload
    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | Future[bool]: ...
    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | Future[bool]:
        """See `pykka.ActorRef.stop`: what was sent before is handled first.

        Raises:
            RuntimeError: a blocking stop on a thread that runs a loop; nothing was sent.
        """
        if block:
            forbid_blocking("stop()")
        stopped = self._stopped(self.ask(_ActorStop(), block=False))
        return stopped.get(timeout=timeout) if block else stopped

    def stop_now(self) -> None:
        """Stop before anything that waits in the inbox, which is answered with ActorDeadError."""
        self.actor_inbox.put_unbounded(Control(Order.STOP_NOW))

    def stop_if_idle(self) -> bool:
        """End the actor in one step if it does nothing and nothing waits; only on its own loop.

        True: it is dead, no message was lost, and a later `tell` raises ActorDeadError. An `on_stop`
        that is async still runs then. False: nothing has changed.

        Raises:
            RuntimeError: this is not the thread of the actor's loop.
        """
        runtime = self.actor_inbox.runtime
        if _get_running_loop() is not runtime.loop:
            raise RuntimeError("stop_if_idle() belongs on the actor's own loop")
        return runtime.passivate(self.actor_inbox)

    def restart(self) -> None:
        """Replace the actor object before the next message; inbox, URN and this ref stay.

        Not counted as a failure. The old object's `on_stop` runs first.

        Raises:
            TypeError: the class is not supervised by `Restart`, so nobody kept its arguments.
        """
        if not isinstance(getattr(self.actor_class, "supervision", None), Restart):
            raise TypeError(f"{self.actor_class.__name__} is not supervised by Restart")
        self.actor_inbox.put_unbounded(Control(Order.RESTART_NOW))

    def watch(self, watcher: "LoopRef[Any]") -> None:
        """Let `watcher` receive `Terminated(self, reason)` once this actor is dead, or at once."""
        watch.watch(self, self.actor_inbox, watcher.actor_inbox, watcher.actor_urn)

    def unwatch(self, watcher: "LoopRef[Any]") -> None:
        """Take `watch` back; the message may be on its way already."""
        watch.unwatch(self, self.actor_inbox, watcher.actor_inbox, watcher.actor_urn)

    def on_terminated(self, callback: Callable[[Terminated], None]) -> None:
        """Call `callback` on the loop once this actor is dead; here and now if it is already."""
        watch.on_terminated(self, self.actor_inbox, callback, callback)

    @staticmethod
    def _stopped(answer: LoopFuture[Any]) -> LoopFuture[bool]:
        def on_thread(timeout: float | None) -> bool:
            try:
                answer.get(timeout=timeout)
            except ActorDeadError:
                return False
            return True

        async def on_loop() -> bool:
            try:
                await answer
            except ActorDeadError:
                return False
            return True

        return derived(on_thread, on_loop)


async def ask(ref: LoopRef[Any], message: Any, *, timeout_s: float = ASK_TIMEOUT_S) -> Any:
    """Send, waiting for room, and await the answer; for the outer edge, never between actors.

    Raises:
        AskTimeout: no answer in time. What had found room may still be handled.
        ActorDeadError: the actor is dead, or died before it answered.
        Exception: whatever the handler raised.
    """
    answer: LoopFuture[Any] = LoopFuture()
    deadline = Deadline(ref.actor_inbox.runtime.ambient, timeout_s)
    try:
        async with deadline:
            await ref.actor_inbox.put_async(Envelope(message, reply_to=answer))
            return await answer
    except TimeoutError:
        if deadline.expired():
            raise AskTimeout(str(ref), timeout_s) from None
        raise
    finally:
        del deadline, answer  # the task, its exception and this frame would be a circle around the reply


def _urn(ambient: Ambient) -> str:
    """A random (version 4) UUID as a URN, as pykka gives its actors."""
    hexa = ambient.token(16)
    return f"urn:uuid:{hexa[:8]}-{hexa[8:12]}-4{hexa[13:16]}-a{hexa[17:20]}-{hexa[20:]}"
