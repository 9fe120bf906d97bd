"""What others hold of a connection: its actor's ref, with the urgent messages as methods.

The socket, the hub, the server and the connection's own tasks never call the actor's object. Each of these
methods is one message that `Connection.on_urgent` handles under the guard of the runtime: a fault in it
ends the connection with `goaway` and 1011. After the connection's end they do nothing.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Final, cast

import msgspec

from huahuo.actors import ActorDeadError, AskTimeout, LoopRef, ask
from huahuo.actors.actor.inbox import IDLE
from huahuo.transport.load.intake import SMALL_BYTES
from huahuo.transport.session.interface import Execute, Record
from huahuo.transport.wire.ports import NONE, Batch, Heard, Socket, TakesAcks
from huahuo.transport.wire.web_socket import ACK

_NOT_DONE: Final = object()
_AT_ONCE_S: Final = 0.002
"""How long one connection's messages are handled at once; the last one may take longer."""
_PASSED_OVER_AT_ONCE: Final = 64
"""Of the messages of a client that is gone; each takes some 10 µs."""


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
    END = auto()
    """All of the client's messages so far were handled. Not urgent."""


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

    def heard(self, texts: list[bytes]) -> tuple[int, Heard]:
        """See `web_socket.Listener`. An idle actor handles the messages at once, for a while."""
        acks = 0
        for text in texts:  # most that come are acks alone
            if not (text.startswith(ACK) and self.took(text)):
                break
            acks += 1
        else:
            return acks, Heard.LATER
        inbox = self.actor_inbox
        actor: Any = inbox.actor
        if actor is None:
            return acks, Heard.QUEUE
        if not actor.place.may_begin(len(texts) - acks):
            return acks, Heard.LATER
        batch = Batch(texts, acks, actor.now_s, _AT_ONCE_S)
        try:
            while batch.at < len(texts):
                actor = inbox.actor
                if actor is None or batch.odd:  # the fault is told in its turn
                    return batch.at, Heard.QUEUE
                if actor.full:
                    return batch.at, Heard.LATER
                if batch.at > acks:
                    batch.now_s = actor.now_s
                    if batch.now_s > batch.until_s:
                        actor.place.wait_again()
                        return batch.at, Heard.LATER
                if not inbox.runtime.handle_now(inbox, batch):
                    return batch.at, Heard.QUEUE
            return batch.at, Heard.LATER
        finally:
            batch.texts = NONE  # a message that waits for its turn holds the batch until then

    def began(self, text: bytes) -> bool:
        """See `web_socket.Listener`. A connection's first message is handled at once: no other one waits.

        After a restart, thousands of sign-ins come at once. The way through the inbox is a third of the
        cost of each.
        """
        try:
            self.tell_now(text.decode())
        except UnicodeDecodeError:
            return False
        except ActorDeadError:
            pass
        return True

    def owes(self) -> bool:
        """See `web_socket.Listener`."""
        actor: Any = self.actor_inbox.actor
        return actor is not None and (actor.session.owes or not self.actor_inbox.empty())

    def needless(self, message: str | bytes) -> bool:
        """Whether a message of a client that is gone need not be handled."""
        actor: Any = self.actor_inbox.actor
        return actor is not None and actor.session.needless(message)

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
        """Nothing more can be read: leave everything that knows the connection."""
        self._tell(Signal.LOST)

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


async def read(ws: Socket, ref: ConnectionRef) -> None:
    """Hand every message to the actor until the connection is gone.

    They are queued, and not handled in this task, because thousands of short ones may wait: the
    scheduler gives others their turn between them. Commands that came before the end are carried out although
    their answers can no longer be sent: leaving does not cancel a command. What only asks is passed over.
    Before the client has authenticated, a message is taken when the one before it was handled: what waits is
    counted at the socket.
    """
    passed_over = 0
    try:
        while (message := await ws.recv()) is not None:
            if ws.is_open or not ref.needless(message):
                await ref.tell_async(message)
            else:
                passed_over += 1
                if passed_over % _PASSED_OVER_AT_ONCE == 0:
                    await asyncio.sleep(0)
            ws.handed_over()
            if not ws.trusted or len(message) > SMALL_BYTES or (ws.load is not None and ws.load.is_in):
                await _handled(ref)
                ws.handled()
        with contextlib.suppress(AskTimeout):
            await ask(ref, Signal.END)
    except ActorDeadError:
        pass
    finally:
        ref.lost()
        ref.stop_now()


async def _handled(ref: ConnectionRef) -> None:
    """All messages before this have been handled, or take very long."""
    with contextlib.suppress(AskTimeout):
        await ask(ref, Signal.END)
