"""The answer to one query. It is computed only when it is the user's turn and the socket has room.

Its bytes count in the budget from before they are built until they are sent. A long answer is made in slices:
part by part, or as one message for a client that takes no parts.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import msgspec

from huahuo.actors.plugins.calls import BUSY_RETRY_S, Parted, Refusal, Reply, error_reply
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.limits import TransportSettings
from huahuo.transport.protocol.parts import ONLY, Part
from huahuo.transport.server.budget import SMALL_BYTES
from huahuo.transport.server.pump import Pump
from huahuo.transport.server.socket import Socket
from huahuo.transport.server.supply import Supply
from huahuo.transport.server.turn_line import Place
from huahuo.transport.server.turns import Crowded
from huahuo.transport.session.outputs import Execute
from huahuo.transport.session.session import Session
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


class SayReply(Protocol):
    """Sends the reply to a call, or its last part, and lets waiting work go on."""

    def __call__(self, asked: Execute, reply: Reply, part: Part = ONLY, frame: bytes | None = None) -> None:
        """`part`: the place of this part, the last one. `frame`: the finished frame, if there is one."""
        ...


class QueryAnswer:
    """See the module. `change` waits for the connection's next happening.

    `reply` and `say_part` are steps of the connection's actor. They raise `ConnectionEnded` after its end.
    """

    def __init__(
        self,
        asked: Execute,
        *,
        ws: Socket,
        session: Session,
        pump: Pump,
        supply: Supply,
        settings: TransportSettings,
        reply: SayReply,
        say_part: Callable[[Execute, Reply, Part, bytes | None], None],
        change: Callable[[], Awaitable[None]],
    ) -> None:
        self._asked = asked
        self._user = asked.call.principal.name
        self._ws = ws
        self._session = session
        self._pump = pump
        self._supply = supply
        self._settings = settings
        self._reply = reply
        self._say_one = say_part
        self._change = change

    async def give(self, work: Callable[[], Awaitable[Reply]], place: Place | None = None) -> None:
        """Answer with what `work` gives. `place`: it has its turn."""
        action = self._asked.spec.action
        try:
            long = await self._in_turn(partial(self._build, action, work), place)
            if long is None:
                return
            reply, parted = long
            if self._session.parts:
                await self._say_parts(reply, parted)
            else:
                await self._in_turn(
                    partial(self._build, f"{action} whole", partial(self._whole, reply, parted))
                )
        except Crowded:
            self._reply(self._asked, _CROWDED)

    async def _in_turn[T](self, do: Callable[[], Awaitable[T]], place: Place | None = None) -> T:
        while True:
            while place is None and self._ws.paused and self._ws.is_open:
                await self._change()
            async with self._supply.turns.turn(self._user, place):
                if not self._ws.paused or not self._ws.is_open:
                    return await do()
            place = None

    async def _build(self, kind: str, work: Callable[[], Awaitable[Reply]]) -> tuple[Reply, Parted] | None:
        """Answer within the budget. A reply that must be made in slices is returned instead."""
        estimates, pump = self._supply.estimates, self._pump
        held = estimates.of(self._user, kind)
        if held <= SMALL_BYTES:
            held = 0
        elif not await pump.reserve(held):
            self._reply(self._asked, _NO_ROOM)
            return None
        try:
            reply = await work()
            if reply.parted is not None:
                return reply, reply.parted
            size = len(reply.body)
            estimates.learn(self._user, kind, size)
            pump.purse.correct(held, size)
            held = size
            self._reply(self._asked, reply, frame=await self._long_frame(reply))
            return None
        finally:
            pump.purse.release(held)
            pump.count_unsent()

    async def _whole(self, reply: Reply, parted: Parted) -> Reply:
        """The reply with its whole body; an empty body means that it is too long for one message."""
        bytes_max = self._settings.reply_bytes_max
        body = await self._supply.turns.join(self._user, parted.pieces(), bytes_max)
        return msgspec.structs.replace(reply, body=body or b"", parted=None)

    async def _long_frame(self, reply: Reply, part: Part = ONLY) -> bytes | None:
        long = self._session.replies.long(self._asked, reply, part)
        return None if long is None else await self._supply.pictures.framed(long)

    async def _say_parts(self, reply: Reply, parted: Parted) -> None:
        """Send all parts, each when it is this user's turn and the socket has room."""
        number = 0
        following: int | None = 0
        while following is not None:
            await self._pump.room()
            async with self._supply.turns.turn(self._user):
                if self._ws.has_room():
                    number += 1
                    following = await self._say_part(reply, parted, number, following)

    async def _say_part(self, reply: Reply, parted: Parted, number: int, start: int) -> int | None:
        """Send one part; returns where the next one begins. Without room, a refusal replaces the rest."""
        pump, bytes_max = self._pump, self._settings.part_bytes_max
        held = bytes_max
        if not await pump.reserve(held):
            self._reply(self._asked, _NO_ROOM)
            return None
        try:
            make = partial(parted.part, start, bytes_max)
            body, following = await self._supply.turns.slice(self._user, make)
            pump.purse.correct(held, len(body))
            held = len(body)
            one = msgspec.structs.replace(reply, body=body, parted=None)
            part = Part(number, more=following is not None)
            frame = await self._long_frame(one, part)
            if following is None:
                self._reply(self._asked, one, part, frame)
            else:
                self._say_one(self._asked, one, part, frame)
            return following
        finally:
            pump.purse.release(held)
            pump.count_unsent()
