"""When the messages of one connection are handled, and the loop's time that is charged for them.

The users share the loop (`turns`, `rounds`). What a user's share does not allow at once stands in line at its
connection. Before a client has authenticated it has no user, and waits for nobody.
"""

import asyncio
from typing import Protocol

from huahuo.transport.server.intake import ROOM_S, SMALL_BYTES, Load, weight
from huahuo.transport.server.rounds import FEW
from huahuo.transport.server.socket import Socket
from huahuo.transport.server.supply import Supply
from huahuo.transport.server.turns import CHARGED_S
from huahuo.transport.session.session import Session


class Shell(Protocol):
    """What it needs of the connection's actor."""

    def stir(self) -> None:
        """Something happened that may give a tick something to do: the connection rests no more."""
        ...


class PlaceInLine:
    """See the module. The small sums of time that are not charged yet are kept: a charge costs 2 µs."""

    __slots__ = ("_behind", "_intake", "_session", "_shell", "_spent_s", "_turns", "_ws", "in_line", "slowed")

    def __init__(self, shell: Shell, supply: Supply, *, ws: Socket, session: Session) -> None:
        self._shell = shell
        self._turns, self._intake = supply.turns, supply.intake
        self._ws = ws
        self._session = session
        self._behind = False  # some of its messages wait for an answer
        self._spent_s = 0.0
        self.slowed = False
        """The actor's message waits for the user's turn."""
        self.in_line = False
        """Messages at the socket wait for the user's turn."""

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits, and all time is charged."""
        return not (self._spent_s or self.slowed or self.in_line)

    def may_begin(self, count: int) -> bool:
        """Whether the first of `count` messages may be handled in this turn of the loop.

        If not, they stand in line for a later one.
        """
        user = self._session.user
        if not user or self._turns.rounds.may_begin(user):
            self._behind = False
            return True
        if not self.in_line:
            self._stand_in_line(user, fresh=count <= FEW and not self._behind)
        return False

    def fell_behind(self) -> None:
        """Its messages wait for an answer."""
        self._behind = True

    def wait_again(self) -> None:
        """This turn has handled its part of the messages."""
        user = self._session.user
        if user:
            self._stand_in_line(user, fresh=False)
        else:
            self._ws.go_on_soon()

    def _stand_in_line(self, user: str, *, fresh: bool) -> None:
        self.in_line = True
        self._shell.stir()
        self._turns.rounds.wait(user, self._go_on, fresh=fresh)

    def _go_on(self) -> None:
        self.in_line = False
        self._ws.go_on()

    # The actor's message ------------------------------------------------------------------------------

    def owes_time(self) -> bool:
        """Whether the user must wait because it used more than its share."""
        user = self._session.user
        return bool(user) and self._turns.must_wait(user)

    def must_wait_a_turn(self) -> bool:
        """Whether a single message must wait for a later turn of the loop."""
        user = self._session.user
        return bool(user) and not self._turns.rounds.may_begin(user)

    def lacks_room(self, size: int) -> bool:
        """Whether a long message, which came in one read, must wait for room."""
        if size <= SMALL_BYTES or self._ws.load is None or self._ws.load.is_in:
            return False
        return not self._intake.fits(self._session.user, weight(size))

    async def come_up(self, size: int) -> Load:
        """Wait until the user's next message may be handled. Close what counts it when it has been."""
        user = self._session.user
        load = Load(self._intake, user)
        if not user:
            return load
        self.slowed = True
        try:
            await self._turns.fair(user)
            await self._turns.rounds.turn(user)
            if self.lacks_room(size) and not load.take(size):
                await load.waited(size, ROOM_S)
        except asyncio.CancelledError:
            load.close()
            raise
        finally:
            self.slowed = False
        return load

    # The bill -----------------------------------------------------------------------------------------

    def charge(self, began_s: float, now_s: float) -> None:
        """The loop's time from `began_s` until `now_s` was spent for the user."""
        if self._session.user:
            self._spent_s += now_s - began_s
            if self._spent_s > CHARGED_S:
                self.settle(now_s)

    def settle(self, now_s: float) -> None:
        """Charge what is not charged."""
        if self._spent_s and self._session.user:
            spent_s, self._spent_s = self._spent_s, 0.0
            self._turns.charge(self._session.user, spent_s, now_s)
