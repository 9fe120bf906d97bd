"""Acks that differ from the connection's last one in the number only, read from the bytes of its socket.

Twenty acks an event are most of what the interpreter does for an event to 500 connections. So such an ack
goes from the socket to the session in one step: past the listener, the runtime and the actor's handler
(ADR 13). It does what the longer ways do, and leaves everything else to them.
"""

from typing import Protocol

from huahuo.actors.actor.inbox import IDLE
from huahuo.transport.protocol.plain_acks import seq_of_ack
from huahuo.transport.server.connection_ref import ConnectionRef
from huahuo.transport.server.pump import Pump
from huahuo.transport.server.text_frames import short_text
from huahuo.transport.server.wires import Wires
from huahuo.transport.session.session import Session


class Shell(Protocol):
    """What it needs of the connection's actor."""

    rests_until_s: float
    """0: it may have something to send."""


class QuickAcks:
    """See the module. One per connection, made when it is first of use."""

    __slots__ = ("_hub", "_inbox", "_monotonic_s", "_pump", "_ref", "_session", "_shell")

    def __init__(
        self, shell: Shell, ref: ConnectionRef, *, session: Session, pump: Pump, wires: Wires
    ) -> None:
        self._shell = shell
        self._ref = ref
        self._inbox = ref.actor_inbox
        self._session = session
        self._pump = pump
        self._hub = wires.hub
        self._monotonic_s = wires.ambient.monotonic_s

    @property
    def front(self) -> bytes:
        """See `listener.TakesAcks`."""
        return self._session.ack_front

    def take(self, data: bytes) -> bool:
        """Process `data` if it is one frame with such an ack. False: nothing has changed.

        The library holds no partial frame.
        """
        text = short_text(data)
        seq = -1 if text is None else seq_of_ack(text, self._session.ack_front)
        return seq >= 0 and self.acked(seq, self._monotonic_s())

    def acked(self, seq: int, now_s: float) -> bool:
        """See `listener.TakesAcks`. A fault ends the connection as any other of its faults does."""
        inbox, session = self._inbox, self._session
        if inbox.state != IDLE or inbox.entered or inbox.stopped is True:
            return False
        failed: Exception | None = None
        inbox.entered = True  # as the runtime has it while a handler is on the stack
        try:
            if not session.acked_up_to(seq, now_s):
                return False
            self._hub.note_ack(session.user, session.client, session.acked_stream, seq)
            if not self._shell.rests_until_s and session.delivery.backlog:
                self._pump.run()
        except Exception as error:  # noqa: BLE001  told below
            failed = error
        finally:
            inbox.entered = False
        if failed is not None:
            self._ref.fault(failed)
        return True
