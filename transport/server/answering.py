"""One connection's commands and queries, from the session's `Execute` to the written answer.

Commands whose answers come together are answered in one write. Each step of a task or of the gate goes
through the actor's door (`step`).
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from functools import partial
from typing import Any, Protocol

import structlog

from huahuo.actors.plugins.calls import Reply
from huahuo.transport.protocol.parts import ONLY, Part
from huahuo.transport.server.answer import QueryAnswer
from huahuo.transport.server.connection_ref import ConnectionEnded, ConnectionRef
from huahuo.transport.server.intake import weight
from huahuo.transport.server.ports import Begun
from huahuo.transport.server.pump import Pump
from huahuo.transport.server.socket import Socket
from huahuo.transport.server.turn_line import Place
from huahuo.transport.server.turns import Turns
from huahuo.transport.server.wires import Wires
from huahuo.transport.session.outputs import Execute, Output, Record
from huahuo.transport.session.session import Session

_log = structlog.get_logger(__name__)


class Shell(Protocol):
    """What the answers need of the connection's actor."""

    def went_on(self, began_s: float) -> None:
        """An answer was written: let go on what waited for that, and charge the time since `began_s`."""
        ...

    async def change(self) -> None:
        """Wait for the connection's next happening."""
        ...

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that ends with the connection."""
        ...

    def start_in_turn(
        self, turns: Turns, user: str, work: Callable[[Place | None], Coroutine[Any, Any, None]]
    ) -> None:
        """As `start_task`, at the user's next turn, which it is given; None: too many wait for theirs."""
        ...


class Answering:
    """See the module."""

    __slots__ = (
        "_answered", "_begun", "_carry_out", "_pump", "_ref", "_session", "_shell", "_weights", "_wires",
        "_ws",
    )  # fmt: skip

    def __init__(
        self,
        shell: Shell,
        ref: ConnectionRef,
        *,
        carry_out: Callable[[Iterable[Output]], object],
        ws: Socket,
        session: Session,
        pump: Pump,
        wires: Wires,
    ) -> None:
        """`carry_out`: carries out outputs of the session."""
        self._shell = shell
        self._carry_out = carry_out
        self._ref = ref
        self._ws = ws
        self._session = session
        self._pump = pump
        self._wires = wires
        self._begun: dict[int, Begun] = {}  # by the identity of their outputs
        self._weights: dict[int, tuple[str, int]] = {}  # of queries, as `_begun`, with their user
        self._answered: list[tuple[Execute | Record, Reply]] = []

    def execute(self, asked: Execute, size: int) -> None:
        """Begin a command or a query, of a message of `size` bytes.

        The query of a client that is gone is not answered.
        """
        if asked.spec.query:
            if not self._ws.is_open:
                return
            self._weights[id(asked)] = asked.call.principal.name, weight(size)
            self._wires.supply.intake.add(*self._weights[id(asked)])
            if self._begun or self._ws.paused:
                self._shell.start_task(self._answer(asked, commands=tuple(self._begun.values())))
            else:
                user, turns = asked.call.principal.name, self._wires.supply.turns
                self._shell.start_in_turn(turns, user, partial(self._answer, asked))
            return
        add, user, weighs = self._wires.supply.intake.add, self._session.user, weight(size)
        give = partial(add, user, -weighs)
        add(user, weighs)
        try:
            self._begun[id(asked)] = self._wires.gate.begin(
                asked.call, asked.spec, partial(self._hear, asked, give)
            )
        except Exception:
            give()
            self.say_internal(asked)
            raise

    def record(self, asked: Record) -> None:
        """Keep an answer that the session found, then tell it."""
        self._begun[id(asked)] = self._wires.gate.record(
            asked.call, asked.reply, partial(self._hear, asked, None)
        )

    def say_internal(self, asked: Execute | Record) -> None:
        """A call cannot be answered, and the connection ends. After `internal`, its id may be sent again."""
        correlation_id = self._wires.ambient.token(8)
        _log.error("reply_failed", action=asked.call.action, correlation_id=correlation_id)
        if not self._session.closed:
            self._pump.write(self._session.internal(asked, correlation_id))

    def let_go(self) -> None:
        """The connection has ended: its queries are not answered any more."""
        for asked in tuple(self._weights):
            self._give(asked)

    def _give(self, asked: int) -> None:
        user, weighs = self._weights.pop(asked, ("", 0))
        self._wires.supply.intake.add(user, -weighs)

    # Commands -----------------------------------------------------------------------------------------

    def _hear(self, asked: Execute | Record, give: Callable[[], None] | None, reply: Reply | None) -> None:
        """A command has its answer. None: the service stops."""
        if give is not None:
            give()
        del self._begun[id(asked)]
        if reply is not None:
            if not self._answered:
                self._wires.outbox.add(self._tell)
            self._answered.append((asked, reply))

    def _tell(self) -> None:
        try:  # noqa: SIM105  `suppress` takes three calls, for each answer
            self._ref.step(self._reply_all)
        except ConnectionEnded:
            pass

    def _reply_all(self) -> None:
        """Answer all commands that have an answer, in one write."""
        began_s = self._wires.ambient.monotonic_s()
        answered, self._answered = self._answered, []
        todo: list[Output] = []
        for asked, reply in answered:
            try:
                todo += self._session.replied(asked, reply)
            except Exception:
                self._carry_out(todo)
                self.say_internal(asked)
                raise
        self._carry_out(todo)
        self._shell.went_on(began_s)

    # Queries ------------------------------------------------------------------------------------------

    async def _answer(
        self, asked: Execute, place: Place | None = None, commands: Collection[Begun] = ()
    ) -> None:
        """Answer a query. It waits for the commands that were sent before it, to show their effects.

        `place`: it has its turn.
        """
        try:
            if commands:
                await asyncio.wait([command.ended() for command in commands])
            query = QueryAnswer(
                asked,
                ws=self._ws,
                session=self._session,
                pump=self._pump,
                supply=self._wires.supply,
                settings=self._wires.shared.settings,
                reply=partial(self._step, self._reply),
                say_part=partial(self._step, self._say_part),
                change=self._shell.change,
            )
            await query.give(partial(self._wires.gate.execute, asked.call, asked.spec), place)
        except ConnectionEnded:
            raise
        except Exception as fault:  # noqa: BLE001  the client comes back, the operator gets the log
            self._ref.fault(fault, asked)
        finally:
            self._give(id(asked))

    def _step(self, step: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        self._ref.step(partial(step, *args, **kwargs))

    def _reply(self, asked: Execute, reply: Reply, part: Part = ONLY, frame: bytes | None = None) -> None:
        began_s = self._wires.ambient.monotonic_s()
        try:
            self._carry_out(self._session.replied(asked, reply, part, frame))
        except Exception:
            self.say_internal(asked)
            raise
        self._shell.went_on(began_s)

    def _say_part(self, asked: Execute, reply: Reply, part: Part, frame: bytes | None) -> None:
        if self._session.closed:
            return
        try:
            self._carry_out(self._session.replied_part(asked, reply, part, frame))
        except Exception:
            self.say_internal(asked)
            raise
