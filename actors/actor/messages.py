"""The runtime's messages, futures and errors, and the end of messages that nobody handles.

An `Envelope` is pykka's: a message and, for an ask, the future to answer. The runtime's orders are
`Control` envelopes: they go to the front of the inbox, and the inbox's limit does not apply to them.
`LoopFuture` suspends a task instead of blocking its loop: any thread may set it, and it is read with
`await` on any loop, or with `get()` on a thread without a loop. Stock pykka's `await` calls the blocking
`get()`.

Exception
+- InboxFull          a `tell` on a loop found no room: wait with `tell_async`, or answer "busy"
+- HandlerCancelled   the handler of an ask was cancelled before it had an answer
+- pykka.Timeout
   +- AskTimeout     no answer in time; the message may still be handled later
"""

import asyncio
import contextlib
import enum
import functools
import queue
import sys
import threading
import traceback
from asyncio.events import _get_running_loop
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Final, cast

import msgspec
from pykka import ActorDeadError, Future, Timeout
from pykka._envelope import Envelope  # private: ActorRef.tell and ask make these
from pykka.messages import _ActorStop  # private: a stop of a dead actor counts as done

__all__ = ["Control", "DeadLetter", "Envelope", "Order", "Reason", "Urgent"]

_FRAMES_MAX: Final = 5


class InboxFull(Exception):  # noqa: N818  the field's own term
    """An actor's inbox holds `limit` messages, and the sender may not block."""

    def __init__(self, actor: str, limit: int) -> None:
        super().__init__(f"the inbox of {actor} holds {limit} messages")
        self.limit = limit


class HandlerCancelled(Exception):  # noqa: N818
    """The handler was cancelled. Not a CancelledError, because the asker itself was not cancelled."""


class AskTimeout(Timeout, TimeoutError):  # noqa: N818
    """No answer within the asker's deadline. The outcome is unknown."""

    def __init__(self, actor: str, timeout_s: float) -> None:
        super().__init__(f"{actor} did not answer within {timeout_s} s")
        self.timeout_s = timeout_s


def where(error: BaseException) -> str:
    """The places of an exception's traceback, innermost first: `a.py:12 in f < b.py:3 in g`.

    For log lines: an exception's text may quote a secret, its places cannot contain one.
    """
    frames = traceback.extract_tb(error.__traceback__, limit=-_FRAMES_MAX)
    places = (f"{frame.filename.rpartition('/')[2]}:{frame.lineno} in {frame.name}" for frame in frames)
    return " < ".join(reversed(list(places))) or "unknown"


class Order(enum.Enum):
    """The runtime's orders to an actor."""

    START = enum.auto()
    STOP_NOW = enum.auto()


class Control(Envelope[Any]):
    """Carries an `Order`. It overtakes messages of users."""

    __slots__ = ()


class Urgent(Control):
    """Carries a message of `tell_urgent` that could not be handled at once."""

    __slots__ = ()


class Reason(enum.StrEnum):
    """Why an actor ended."""

    STOPPED = "stopped"
    FAILED = "failed"
    GAVE_UP = "gave up"
    IDLE = "idle"


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that was not handled and whose sender was not told. Only type names, no content."""

    actor: str
    message: str
    reason: str


KEPT: Final = 16


class DeadLetters:
    """The number of dead letters since the start, and the type names of the last few."""

    def __init__(self) -> None:
        self.count = 0
        self.recent: deque[DeadLetter] = deque(maxlen=KEPT)

    def take(self, actor: str, envelope: Envelope[Any], why: str) -> None:
        """Tell the asker that the actor is dead, or count a message that has no asker."""
        message = envelope.message
        if envelope.reply_to is not None:
            if isinstance(message, _ActorStop):
                answer(envelope, None)
            else:
                refuse(envelope, ActorDeadError(f"{actor} stopped before handling the message"))
        elif isinstance(envelope, Urgent) or not (
            isinstance(envelope, Control) or isinstance(message, _ActorStop)
        ):
            self.count += 1
            self.recent.append(DeadLetter(actor, type(message).__name__, why))


def answer(envelope: Envelope[Any], value: object) -> None:
    """Answer an ask. If the asker itself has already set its future, the answer is dropped."""
    if envelope.reply_to is not None:
        try:  # noqa: SIM105  `suppress` costs more than the answer itself
            envelope.reply_to.set(value)
        except queue.Full:
            pass


def refuse(envelope: Envelope[Any], error: BaseException) -> None:
    """Answer an ask with an exception."""
    if envelope.reply_to is not None:
        with contextlib.suppress(queue.Full):
            envelope.reply_to.set_exception((type(error), error, error.__traceback__))


type ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

_UNSET: Final[Any] = object()

# One lock for all futures, because it is held only for a few lines that call nothing. Re-entrant, because a
# finalizer may run inside those lines and use a future.
_lock = threading.RLock()


def forbid_blocking(what: str) -> None:
    """Refuse to block a thread that runs an event loop.

    Raises:
        RuntimeError: a loop runs on this thread.
    """
    if _get_running_loop() is not None:
        raise RuntimeError(f"blocking {what} on an event-loop thread would deadlock: await it")


class LoopFuture[T](Future[T]):
    """A value that exists now or later.

    As in pykka, the results of `map`, `filter`, `join` and `reduce` are computed on first reading and kept.
    """

    # Class attributes save time and memory: most futures live for one answer and need few of these.
    _get_hook: Callable[[float | None], T] | None = None
    _value: T = _UNSET
    _exc_info: ExcInfo | None = None
    _done = False
    _callbacks: list[Callable[[], None]] | None = None
    _later: Callable[[], Awaitable[T]] | None = None

    def __init__(self) -> None:
        pass  # pykka's would set the attributes above

    def get(self, *, timeout: float | None = None) -> T:
        """See `pykka.Future.get`. With `timeout=0` it does not wait.

        Raises:
            RuntimeError: there is no value yet and this thread runs a loop.
            Timeout: no value within `timeout` seconds.
        """
        if self._done:
            return self._result()
        if self._get_hook is not None:
            return self._first(self._get_hook(timeout))
        if timeout is None or timeout > 0:
            forbid_blocking("get()")
            arrived = threading.Event()
            self._when_done(arrived.set)
            if arrived.wait(timeout):
                return self._result()
            self._forget(arrived.set)
        raise Timeout(f"{timeout} seconds")

    def set(self, value: T | None = None) -> None:
        """See `pykka.Future.set`."""
        self._settle(cast("T", value), None)

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        """See `pykka.Future.set_exception`."""
        self._settle(_UNSET, exc_info or cast("ExcInfo", sys.exc_info()))

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """See `pykka.Future.set_get_hook`. A future with a foreign hook cannot be awaited."""
        with _lock:
            if self._done:
                raise queue.Full
            self._get_hook = func

    def map[M](self, func: Callable[[T], M]) -> "LoopFuture[M]":
        """See `pykka.Future.map`."""

        async def later() -> M:
            return func(await self)

        return derived(lambda timeout: func(self.get(timeout=timeout)), later)

    def filter[J](self: Future[Iterable[J]], func: Callable[[J], bool]) -> "LoopFuture[Iterable[J]]":
        """See `pykka.Future.filter`."""
        return cast("LoopFuture[Iterable[J]]", self.map(lambda items: list(filter(func, items))))

    def reduce[J, R](self: Future[Iterable[J]], func: Callable[[R, J], R], *args: R) -> "LoopFuture[R]":
        """See `pykka.Future.reduce`."""
        fold = cast("Callable[..., R]", functools.reduce)
        return cast("LoopFuture[R]", self.map(lambda items: fold(func, items, *args)))

    def join(self: Future[Any], *futures: Future[Any]) -> "LoopFuture[Iterable[Any]]":
        """See `pykka.Future.join`. It can be awaited only if every part is a `LoopFuture`."""
        parts = (self, *futures)

        async def later() -> list[Any]:
            stranger = next((part for part in parts if not isinstance(part, LoopFuture)), None)
            if stranger is not None:
                raise TypeError(f"a {type(stranger).__name__} would block the loop: get() it on a thread")
            return [await part for part in parts]

        return derived(lambda timeout: [part.get(timeout=timeout) for part in parts], later)

    def __await__(self) -> Generator[Any, None, T]:
        """Suspend the task, never the loop."""
        if not self._done:
            if self._get_hook is None:
                yield from self._arrival()
            elif self._later is None:
                raise TypeError("a get hook would block the loop: get() it on a thread")
            else:
                return self._first((yield from self._later().__await__()))
        try:
            return self._result()
        finally:
            del self  # as in `_result`

    __iter__ = __await__

    def _arrival(self) -> Generator[Any, None, None]:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        arrived = functools.partial(_wake, loop, waiter)
        self._when_done(arrived)
        try:
            yield from waiter
        finally:
            if not self._done:
                self._forget(arrived)

    def _settle(self, value: T, exc_info: ExcInfo | None) -> None:
        with _lock:
            if self._done or self._get_hook is not None:
                raise queue.Full
            self._keep(value, exc_info)
            callbacks, self._callbacks = self._callbacks, None
        if callbacks is not None:
            for callback in callbacks:
                callback()

    def _keep(self, value: T, exc_info: ExcInfo | None = None) -> None:
        self._value, self._exc_info = value, exc_info
        self._done = True

    def _first(self, value: T) -> T:
        """Keep a computed value, unless another reader was first, so that all readers see the same one."""
        with _lock:
            if not self._done:
                self._keep(value)
        return self._value

    def _result(self) -> T:
        if self._exc_info is None:
            return self._value
        kind, error, trace = self._exc_info
        assert kind is not None
        try:
            raise (kind() if error is None else error).with_traceback(trace)
        finally:
            # The traceback holds this frame. Without this, the cycle would wait for the garbage collector.
            del error, trace, self

    def _when_done(self, callback: Callable[[], None]) -> None:
        with _lock:
            if not self._done:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        callback()

    def _forget(self, callback: Callable[[], None]) -> None:
        with _lock:
            if self._callbacks is not None and callback in self._callbacks:
                self._callbacks.remove(callback)


def derived[T](hook: Callable[[float | None], T], later: Callable[[], Awaitable[T]]) -> LoopFuture[T]:
    """A future that is computed on first reading: by `hook` on a thread, by `later` when awaited."""
    future: LoopFuture[T] = LoopFuture()
    future._get_hook = hook  # noqa: SLF001  the same class's own field
    future._later = later  # noqa: SLF001
    return future


def _wake(loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
    """Resume the task on `loop` that awaits `waiter`. Callable from any thread."""
    if _get_running_loop() is not loop:
        if not loop.is_closed():
            loop.call_soon_threadsafe(_arrive, waiter)
    elif not waiter.done():
        waiter.set_result(None)


def _arrive(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
