"""`LoopRef`: pykka's ActorRef with methods for loops; `ask`; death watch; the table of all actors.

A watch ends with the watched actor or with the watcher, so no data of dead actors is kept. Delivery of a
`Terminated` never fails for want of room, because it is the runtime's own message. `RefTable` replaces
pykka's ActorRegistry: that searches a list, so at 100,000 actors one unregistration takes milliseconds,
and stopping all is quadratic. It uses the private names `_actor_refs` and `_actor_refs_lock` of pykka 4.5.
"""

import logging
from asyncio.events import _get_running_loop
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, cast, overload
from weakref import WeakValueDictionary

from pykka import Actor, ActorDeadError, ActorRef, ActorRegistry, Future
from pykka.messages import _ActorStop  # private: what ActorRef.stop sends

from huahuo.actors.actor.inbox import Inbox
from huahuo.actors.actor.messages import (
    AskTimeout,
    Control,
    Envelope,
    LoopFuture,
    Order,
    derived,
    forbid_blocking,
)
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline

ASK_TIMEOUT_S: Final = 10.0

named: Final[WeakValueDictionary[str, ActorRef[Any]]] = WeakValueDictionary()
"""Refs whose URN has been read, by URN, whether registered or not."""


class Flag:
    """An inbox's `stopped` with the interface of pykka's `actor_stopped`, a `threading.Event`."""

    __slots__ = ("_inbox",)

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def is_set(self) -> bool:
        """Whether the actor has ended."""
        return self._inbox.stopped is True

    def set(self) -> None:
        """Mark the actor as ended."""
        self._inbox.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until the actor has ended."""
        forbid_blocking("wait()")
        return self._inbox.wait_stopped(timeout)


class LoopRef[A: Actor](ActorRef[A]):
    """A reference to a loop actor. It can be used from any thread.

    All its data except the class is in the inbox, which outlives the actor. This saves memory: each of
    100,000 actors has a ref.
    """

    __slots__ = ("actor_class", "actor_inbox")

    def __init__(self, actor: A, inbox: Inbox) -> None:
        # Not ActorRef.__init__, which would keep a weak reference and copies of the inbox's data.
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

    @property
    def actor(self) -> A | None:
        """The object behind a live ref, to look at: whatever changes it goes by its inbox."""
        return self._actor_weakref()

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

    def tell_now(self, message: Any) -> None:
        """As `tell`, but on the actor's own loop an idle actor handles the message in this call.

        It does so under the same supervision as in a turn: no exception of the handler reaches the caller.
        While the actor has a message in hand, also its caller's own, the message is queued.

        Raises:
            ActorDeadError: the actor is dead.
            InboxFull: there is no room and this thread runs a loop.
        """
        inbox = self.actor_inbox
        if inbox.stopped is True:
            raise ActorDeadError(f"{self} not found")
        if not inbox.runtime.handle_now(inbox, message):
            inbox.put(Envelope(message))

    def tell_urgent(self, message: Any) -> None:
        """Let `on_urgent` handle a message, in this call unless the actor's own code is on the stack.

        It overtakes queued messages, is handled while a handler is suspended, and has no limit: use it for
        few and short ones. Urgent messages keep their order. A fault ends the suspended handler, too.

        Raises:
            ActorDeadError: the actor is dead.
            RuntimeError: this is not the thread of the actor's loop.
        """
        inbox = self.actor_inbox
        if inbox.stopped is True:
            raise ActorDeadError(f"{self} not found")
        inbox.runtime.tell_urgent(inbox, message)

    def try_urgent(self, message: Any, otherwise: Any = None) -> Any:
        """As `tell_urgent`, with the result of `on_urgent`.

        `otherwise`: the result if the message failed, or if it could not be handled in this call. It is not
        queued then.

        Raises:
            RuntimeError: this is not the thread of the actor's loop.
        """
        inbox = self.actor_inbox
        if inbox.stopped is True:
            return otherwise
        return inbox.runtime.try_urgent(inbox, message, otherwise)

    @overload
    def ask(
        self, message: Any, *, block: Literal[False], timeout: float | None = None
    ) -> LoopFuture[Any]: ...
    @overload
    def ask(self, message: Any, *, block: Literal[True], timeout: float | None = None) -> Any: ...
    @overload
    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any: ...
    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        """See `pykka.ActorRef.ask`. On a loop, use `block=False` and await, or `actors.ask`.

        Raises:
            RuntimeError: a blocking ask on a thread that runs a loop. Nothing was sent.
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
        """Send, waiting in line for room in the inbox, but not for an answer.

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
        """See `pykka.ActorRef.stop`. Messages sent before are handled first.

        Raises:
            RuntimeError: a blocking stop on a thread that runs a loop. Nothing was sent.
        """
        if block:
            forbid_blocking("stop()")
        stopped = self._stopped(self.ask(_ActorStop(), block=False))
        return stopped.get(timeout=timeout) if block else stopped

    def stop_now(self) -> None:
        """Stop without handling waiting messages, which are answered with ActorDeadError."""
        self.actor_inbox.put_unbounded(Control(Order.STOP_NOW))

    def stop_if_idle(self) -> bool:
        """End the actor in one step if it is idle and its inbox is empty. Only on its own loop.

        True: it is dead, no message was lost, and a later `tell` raises ActorDeadError; an async `on_stop`
        may still run. False: nothing has changed.

        Raises:
            RuntimeError: this is not the thread of the actor's loop.
        """
        runtime = self.actor_inbox.runtime
        if _get_running_loop() is not runtime.loop:
            raise RuntimeError("stop_if_idle() belongs on the actor's own loop")
        return runtime.passivate(self.actor_inbox)

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
    """Send, waiting for room, and await the answer. For callers that are not actors.

    Raises:
        AskTimeout: no answer in time. If the message was queued, it may still be handled.
        ActorDeadError: the actor is dead, or died before it answered.
        Exception: any exception that the handler raised.
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
        del deadline, answer  # else the task, its exception and this frame form a cycle


def _urn(ambient: Ambient) -> str:
    """A random (version 4) UUID as a URN, as pykka gives its actors."""
    hexa = ambient.token(16)
    return f"urn:uuid:{hexa[:8]}-{hexa[8:12]}-4{hexa[13:16]}-a{hexa[17:20]}-{hexa[20:]}"


_pykka_log = logging.getLogger("pykka")


class RefTable:
    """Refs in order of registration, with the list methods that ActorRegistry uses."""

    def __init__(self, refs: Iterable[ActorRef[Any]] = ()) -> None:
        self._refs: dict[ActorRef[Any], None] = {}
        for ref in refs:
            self.append(ref)

    def append(self, ref: ActorRef[Any]) -> None:
        """Add a ref as the newest."""
        self._refs[ref] = None
        if not isinstance(ref, LoopRef):  # a LoopRef adds itself to `named` when its URN is made
            named[ref.actor_urn] = ref

    def remove(self, ref: ActorRef[Any]) -> None:
        """Forget a ref that is present."""
        del self._refs[ref]

    def by_urn(self, urn: str) -> ActorRef[Any] | None:
        """The ref with this URN, if it is here."""
        ref = named.get(urn)
        return ref if ref in self._refs else None

    def __contains__(self, ref: ActorRef[Any]) -> bool:
        return ref in self._refs

    def __iter__(self) -> Iterator[ActorRef[Any]]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, part: slice) -> list[ActorRef[Any]]:
        return list(self._refs)[part]


def install() -> None:
    """Replace the registry's list by a table, once in a process. Registered refs are kept."""
    with ActorRegistry._actor_refs_lock:  # noqa: SLF001
        if isinstance(cast("object", ActorRegistry._actor_refs), RefTable):  # noqa: SLF001
            return
        table = RefTable(ActorRegistry._actor_refs)  # noqa: SLF001
        ActorRegistry._actor_refs = cast("list[ActorRef[Any]]", table)  # noqa: SLF001

    def get_by_urn(_cls: type[ActorRegistry], actor_urn: str) -> ActorRef[Any] | None:
        return table.by_urn(actor_urn)

    ActorRegistry.get_by_urn = classmethod(get_by_urn)  # type: ignore[method-assign,assignment]


def register(ref: ActorRef[Any]) -> None:
    """As `ActorRegistry.register`, without the cost of its debug log line."""
    with ActorRegistry._actor_refs_lock:  # noqa: SLF001
        ActorRegistry._actor_refs.append(ref)  # noqa: SLF001
    if _pykka_log.isEnabledFor(logging.DEBUG):
        _pykka_log.debug("Registered %s", ref)


def unregister(ref: ActorRef[Any]) -> None:
    """As `ActorRegistry.unregister`. A ref that is not registered is no error."""
    with ActorRegistry._actor_refs_lock:  # noqa: SLF001
        found = ref in ActorRegistry._actor_refs  # noqa: SLF001
        if found:
            ActorRegistry._actor_refs.remove(ref)  # noqa: SLF001
    if found and _pykka_log.isEnabledFor(logging.DEBUG):
        _pykka_log.debug("Unregistered %s", ref)
