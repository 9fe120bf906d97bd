"""What others hold of a connection: its actor's ref, with the urgent messages as methods.

The socket, the hub, the server and the connection's own tasks never call the actor's object. Each of these
methods is one message that `Connection.on_urgent` handles under the guard of the runtime: a fault in it
ends the connection with `goaway` and 1011. After the connection's end they do nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, cast

import msgspec

from huahuo.actors import ActorDeadError, LoopRef
from huahuo.actors.actor.inbox import BUSY, HOOK, IDLE
from huahuo.transport.session.interface import Execute, Record
from huahuo.transport.wire.ports import TakesAcks
from huahuo.transport.wire.web_socket import ACK

_NOT_DONE: Final = object()


class ConnectionEnded(Exception):  # noqa: N818  a fact about the connection
    """A task of a connection wants to go on, but the connection has ended or is about to."""


class Signal(Enum):
    """Messages without content."""

    PONG = auto()
    FILLED = auto()
    DRAINED = auto()
    DISCONNECTED = auto()
    LOST = auto()
    CURSORS = auto()


class Tick(msgspec.Struct, frozen=True, gc=False):
    """About a second has passed."""

    now_s: float


class WakeUp(msgspec.Struct, frozen=True, gc=False):
    """The process slept until now."""

    now_s: float


class Close(msgspec.Struct, frozen=True, gc=False):
    """End the connection."""

    code: int
    reason: str


class Fault(msgspec.Struct, frozen=True):
    """A task of the connection raised `error`. If it was to answer `asked`, the client hears `internal`."""

    error: Exception
    asked: Execute | Record | None = None


class Batch:
    """Messages of a client, to be handled in order. The first `at` of `texts` are."""

    __slots__ = ("at", "texts")

    def __init__(self, texts: Sequence[bytes], at: int) -> None:
        self.texts = texts
        self.at = at


class ConnectionRef(LoopRef[Any]):
    """See the module. Implements `ports.LiveConnection`, `hub.HasCursors` and `web_socket.Listener`."""

    __slots__ = ()

    def tick(self, now_s: float) -> float:
        """See `ports.LiveConnection`."""
        self._tell(Tick(now_s))
        actor: Any = self.actor_inbox.actor
        rests_until_s: float = 0.0 if actor is None else actor.rests_until_s  # no `cast`: it is a call
        return rests_until_s

    def wake_up(self, now_s: float) -> None:
        """See `ports.LiveConnection`."""
        self._tell(WakeUp(now_s))

    def close(self, code: int, reason: str) -> None:
        """See `ports.LiveConnection`."""
        self._tell(Close(code, reason))

    def cursors(self) -> Mapping[str, int]:
        """The last seq sent, per subscribed stream; empty after the connection's end."""
        return cast("Mapping[str, int]", self.try_urgent(Signal.CURSORS, {}))

    def took(self, text: bytes) -> bool:
        """See `web_socket.Listener`. Nearly all messages are acks, and an ack needs no turn of the actor."""
        inbox = self.actor_inbox
        if inbox.stopped is True:
            return False
        runtime = inbox.runtime
        if inbox.state == IDLE and not inbox.entered:  # the usual case; sockets are read on the loop
            return runtime.interrupt(inbox, text, False) is True
        return runtime.try_urgent(inbox, text, False) is True

    @property
    def quick_acks(self) -> TakesAcks | None:
        """See `web_socket.Listener`."""
        actor: Any = self.actor_inbox.actor
        return None if actor is None else cast("TakesAcks | None", actor.quick_acks)

    @property
    def is_busy(self) -> bool:
        """See `web_socket.Listener`."""
        return self.actor_inbox.state in (BUSY, HOOK)

    def heard(self, texts: list[bytes]) -> int:
        """See `web_socket.Listener`. An idle actor handles the messages at once, for a while."""
        acks = 0
        for text in texts:  # most that come are acks alone
            if not (text.startswith(ACK) and self.took(text)):
                break
            acks += 1
        else:
            return acks
        inbox = self.actor_inbox
        if inbox.actor is None:
            return len(texts)
        batch = Batch(texts, acks)
        inbox.runtime.handle_now(inbox, batch)
        batch.texts = ()  # one that must wait holds the batch until then
        return batch.at

    def owes(self) -> bool:
        """See `web_socket.Listener`."""
        actor: Any = self.actor_inbox.actor
        return actor is not None and actor.session.owes

    def ponged(self) -> None:
        """See `web_socket.Listener`."""
        self._tell(Signal.PONG)

    def filled(self) -> None:
        """See `web_socket.Listener`."""
        self._tell(Signal.FILLED)

    def drained(self) -> None:
        """See `web_socket.Listener`."""
        self._tell(Signal.DRAINED)

    def disconnected(self) -> None:
        """See `web_socket.Listener`."""
        self._tell(Signal.DISCONNECTED)

    def lost(self) -> None:
        """See `web_socket.Listener`."""
        self._tell(Signal.LOST)
        self.stop_now()

    def fault(self, error: Exception, asked: Execute | Record | None = None) -> None:
        """See `Fault`."""
        self._tell(Fault(error, asked))

    def tell_step(self, step: Callable[[], object]) -> None:
        """Let the actor take a step of one of its timers, or of the fan-out."""
        self._tell(step)

    def step[T](self, step: Callable[[], T]) -> T:
        """Let the actor take a step of one of its tasks.

        Raises:
            ConnectionEnded: it was not taken, or it failed and ends the connection.
        """
        done: Any = self.try_urgent(step, _NOT_DONE)  # no `cast`: it is a call
        if done is _NOT_DONE:
            raise ConnectionEnded
        return done  # type: ignore[no-any-return]

    def _tell(self, message: object) -> None:
        try:  # noqa: SIM105  `suppress` costs more than an ack
            self.tell_urgent(message)
        except ActorDeadError:
            pass
