"""Does what one connection's session says, in order: the outputs of a session, carried out."""

from collections.abc import Iterable
from typing import Protocol

from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.server import answering
from huahuo.transport.server.alarms import tell_alarm
from huahuo.transport.server.answering import Answering
from huahuo.transport.server.connection_ref import ConnectionRef
from huahuo.transport.server.pump import Pump
from huahuo.transport.server.socket import Socket
from huahuo.transport.server.wires import Wires
from huahuo.transport.session import outputs
from huahuo.transport.session.outputs import Output
from huahuo.transport.session.session import Session

_REVOKED_DEADLINE_S = 0.5
"""The transport of a revoked client is aborted after this, so that its socket is closed within 1 s."""


class Shell(answering.Shell, Protocol):
    """What it needs of the connection's actor."""

    def leave(self) -> None:
        """The close is said: leave the hub and stop reading for this connection."""
        ...


class CarryingOut:
    """See the module."""

    __slots__ = ("_answers", "_pump", "_ref", "_session", "_shell", "_wires", "_ws")

    def __init__(
        self, shell: Shell, ref: ConnectionRef, *, ws: Socket, session: Session, pump: Pump, wires: Wires
    ) -> None:
        self._shell = shell
        self._ref = ref
        self._ws = ws
        self._session = session
        self._pump = pump
        self._wires = wires
        self._answers: Answering | None = None

    @property
    def answering(self) -> Answering:
        """Made at the first command: many connections only read."""
        if self._answers is None:
            self._answers = Answering(
                self._shell,
                self._ref,
                carry_out=self.do,
                ws=self._ws,
                session=self._session,
                pump=self._pump,
                wires=self._wires,
            )
        return self._answers

    def do(self, todo: Iterable[Output], size: int = 0) -> outputs.Verify | outputs.LookUp | None:
        """Carry out `todo`. `Verify` and `LookUp` are returned for the caller to do.

        `size`: of the message that asked for it.
        """
        asked = None
        frames: list[bytes] = []  # written together: each write is a system call
        for one in todo:
            match one:
                case bytes():
                    frames.append(one)
                case outputs.Execute():
                    self.answering.execute(one, size)
                case outputs.Record():
                    self.answering.record(one)
                case outputs.Acked():
                    self.note((one,))
                case outputs.Verify() | outputs.LookUp():
                    asked = one
                case outputs.Watch():
                    self._wires.meter.resumed(one.outcome)
                    self._pump.watch(one.stream)
                case outputs.Unwatch():
                    self._pump.unwatch(one.stream)
                case outputs.TakeSnapshot():
                    self._pump.take_snapshot(one.sub)
                case outputs.Alarm():
                    self._wires.meter.cursor_ahead()
                    tell_alarm(one)
                case outputs.Close():
                    self._write(frames)
                    self._close(one)
        self._write(frames)
        return asked

    def let_go(self) -> None:
        """The connection has ended: hold no more what holds this."""
        if self._answers is not None:
            self._answers.let_go()
            self._answers = None

    def note(self, acked: Iterable[outputs.Acked]) -> None:
        """Tell the hub how far the client has processed its streams."""
        user = self._session.user
        assert user, "an ack before any event was sent"
        for one in acked:
            self._wires.hub.note_ack(user, self._session.client, one.stream, one.seq)

    def _write(self, frames: list[bytes]) -> None:
        if frames:
            self._pump.write_all(frames)
            frames.clear()

    def _close(self, said: outputs.Close) -> None:
        settings = self._wires.shared.settings
        self._wires.meter.closed(said.code)
        deadline_s = _REVOKED_DEADLINE_S if said.code is CloseCode.REVOKED else settings.close_timeout_s
        self._ws.end(said.code, said.reason, deadline_s)
        self._shell.leave()
