"""Commands and queries of one connection, up to the written answer.

Commands whose answers come together are answered in one write. Each step of a task or of the gate goes
through the actor's door (`step`).

The answer to a query is computed only when it is the user's turn and the socket has room. Its bytes count
in the budget from before they are built until they are sent. A long answer is made in slices: part by
part, or as one message for a client that takes no parts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any

import msgspec
import structlog

from huahuo.actors.plugins.calls import BUSY_RETRY_S, Parted, Refusal, Reply, error_reply
from huahuo.transport.load.fair_queueing import Crowded, Place
from huahuo.transport.load.intake import weight
from huahuo.transport.load.shares import SMALL_BYTES
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.kinds import ONLY, Part
from huahuo.transport.server.pump import Pump, Shell
from huahuo.transport.server.wires import Wires
from huahuo.transport.session.interface import Execute, Output, Record
from huahuo.transport.session.outgoing import with_position
from huahuo.transport.session.session import Session
from huahuo.transport.wire.connection_ref import ConnectionEnded, ConnectionRef
from huahuo.transport.wire.ports import Begun, Socket
from huahuo.transport.words import en, zh

_NO_ROOM = error_reply(
    Refusal(
        ErrorCode.BUSY,
        zh.TOO_MUCH_UNREAD,
        en.REPLIES_UNREAD,
        retry_s=BUSY_RETRY_S,
    )
)
_CROWDED = error_reply(Refusal(ErrorCode.BUSY, zh.TOO_MANY_QUERIES, en.QUERIES_OF_USER, retry_s=BUSY_RETRY_S))


_log = structlog.get_logger(__name__)


class Answering:
    """One connection's commands and queries, from the session's `Execute` to the written answer."""

    __slots__ = (
        "_answered", "_begun", "_pump", "_ref", "_session", "_shell", "_weights", "_wires",
        "_ws",
    )  # fmt: skip

    def __init__(
        self,
        shell: Shell,
        ref: ConnectionRef,
        *,
        ws: Socket,
        session: Session,
        pump: Pump,
        wires: Wires,
    ) -> None:
        self._shell = shell
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
        position = 0
        for asked, told in answered:
            reply = with_position(told, self._wires.shared.log)
            if reply.at is not None:
                position = max(position, reply.position)
            try:
                todo += self._session.replied(asked, reply)
            except Exception:
                self._shell.carry_out(todo)
                self.say_internal(asked)
                raise
        self._shell.carry_out(todo)
        self._shell.went_on(began_s, position)

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
            await self._give_answer(asked, place)
        except ConnectionEnded:
            raise
        except Exception as fault:  # noqa: BLE001  the client comes back, the operator gets the log
            self._ref.fault(fault, asked)
        finally:
            self._give(id(asked))

    async def _give_answer(self, asked: Execute, place: Place | None) -> None:
        """`place`: it has its turn."""
        user, work = asked.call.principal.name, partial(self._wires.gate.execute, asked.call, asked.spec)
        try:
            long = await self._in_turn(user, partial(self._build, asked, asked.spec.action, work), place)
            if long is None:
                return
            reply, parted = long
            if self._session.parts:
                await self._say_parts(asked, reply, parted)
            else:
                whole = partial(self._whole, user, reply, parted)
                await self._in_turn(user, partial(self._build, asked, f"{asked.spec.action} whole", whole))
        except Crowded:
            self._step(self._reply, asked, _CROWDED)

    async def _in_turn[T](self, user: str, do: Callable[[], Awaitable[T]], place: Place | None = None) -> T:
        while True:
            while place is None and self._ws.paused and self._ws.is_open:
                await self._shell.change()
            async with self._wires.supply.turns.turn(user, place):
                if not self._ws.paused or not self._ws.is_open:
                    return await do()
            place = None

    async def _build(
        self, asked: Execute, kind: str, work: Callable[[], Awaitable[Reply]]
    ) -> tuple[Reply, Parted] | None:
        """Answer within the budget. A reply that must be made in slices is returned instead."""
        user, estimates, pump = asked.call.principal.name, self._wires.supply.estimates, self._pump
        held = estimates.of(user, kind)
        if held <= SMALL_BYTES:
            held = 0
        elif not await pump.reserve(held):
            self._step(self._reply, asked, _NO_ROOM)
            return None
        try:
            reply = await work()
            if reply.parted is not None:
                return reply, reply.parted
            size = len(reply.body)
            estimates.learn(user, kind, size)
            pump.purse.correct(held, size)
            held = size
            self._step(self._reply, asked, reply, frame=await self._long_frame(asked, reply))
            return None
        finally:
            pump.purse.release(held)
            pump.count_unsent()

    async def _whole(self, user: str, reply: Reply, parted: Parted) -> Reply:
        """The reply with its whole body; an empty body means that it is too long for one message."""
        bytes_max = self._wires.shared.settings.reply_bytes_max
        body = await self._wires.supply.turns.join(user, parted.pieces(), bytes_max)
        return msgspec.structs.replace(reply, body=body or b"", parted=None)

    async def _long_frame(self, asked: Execute, reply: Reply, part: Part = ONLY) -> bytes | None:
        long = self._session.replies.long(asked, reply, part)
        return None if long is None else await self._wires.supply.pictures.framed(long)

    async def _say_parts(self, asked: Execute, reply: Reply, parted: Parted) -> None:
        """Send all parts, each when it is this user's turn and the socket has room."""
        number = 0
        following: int | None = 0
        while following is not None:
            await self._pump.room()
            async with self._wires.supply.turns.turn(asked.call.principal.name):
                if self._ws.has_room():
                    number += 1
                    following = await self._send_part(asked, reply, parted, number, following)

    async def _send_part(
        self, asked: Execute, reply: Reply, parted: Parted, number: int, start: int
    ) -> int | None:
        """Send one part; returns where the next one begins. Without room, a refusal replaces the rest."""
        pump, bytes_max = self._pump, self._wires.shared.settings.part_bytes_max
        held = bytes_max
        if not await pump.reserve(held):
            self._step(self._reply, asked, _NO_ROOM)
            return None
        try:
            make = partial(parted.part, start, bytes_max)
            body, following = await self._wires.supply.turns.slice(asked.call.principal.name, make)
            pump.purse.correct(held, len(body))
            held = len(body)
            one = msgspec.structs.replace(reply, body=body, parted=None)
            part = Part(number, more=following is not None)
            frame = await self._long_frame(asked, one, part)
            if following is None:
                self._step(self._reply, asked, one, part, frame)
            else:
                self._step(self._say_part, asked, one, part, frame)
            return following
        finally:
            pump.purse.release(held)
            pump.count_unsent()

    def _step(self, step: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        self._ref.step(partial(step, *args, **kwargs))

    def _reply(self, asked: Execute, reply: Reply, part: Part = ONLY, frame: bytes | None = None) -> None:
        began_s = self._wires.ambient.monotonic_s()
        try:
            self._shell.carry_out(self._session.replied(asked, reply, part, frame))
        except Exception:
            self.say_internal(asked)
            raise
        self._shell.went_on(began_s)

    def _say_part(self, asked: Execute, reply: Reply, part: Part, frame: bytes | None) -> None:
        if self._session.closed:
            return
        try:
            self._shell.carry_out(self._session.replied_part(asked, reply, part, frame))
        except Exception:
            self.say_internal(asked)
            raise
