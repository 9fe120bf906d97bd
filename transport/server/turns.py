"""Turns: large answers of one user queue behind each other, and long work is done slice by slice."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final

from huahuo.eventstore.core.fair_executor import acting_user
from huahuo.transport.server.overhead import Overhead
from huahuo.transport.server.paying import Paying
from huahuo.transport.server.rounds import Rounds
from huahuo.transport.server.shares import FREE_S, Shares
from huahuo.transport.server.turn_line import Line, Place

AT_ONCE: Final = 4
"""Queries and snapshots of one user that are worked on at once. None starts while it owes time (`shares`)."""
WAITING_MAX: Final = 256
"""At half of this, we stop reading that user's connections. At this, queries are refused (`busy`)."""
ALL_WAITING_MAX: Final = 4_096
"""Of all users, each with an even part of it: a query that waits takes 1 KB. At half of its part, we stop
reading a user's connections. Once this many wait, what is beyond its part is refused. Parts become smaller
with each user that comes, so once twice as many wait, each part is one."""
CROWDED_S: Final = 0.5
CHARGED_S: Final = 0.0002
REST_S: Final = 0.002
"""The pause between two slices while several users have work."""


class Crowded(Exception):  # noqa: N818  a fact about the queue
    """Too many queries of this user wait already; this one was refused."""


class Turns:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self,
        shares: Shares,
        now_s: Callable[[], float],
        *,
        process_s: Callable[[], float] = float,
        waiting_max: int = WAITING_MAX,
        all_waiting_max: int = ALL_WAITING_MAX,
    ) -> None:
        """`process_s`: the processor time of the process. Without it, charges are not scaled (`overhead`)."""
        self.shares = shares
        self._process_s = process_s
        self._overhead = Overhead(now_s(), process_s())
        self._now_s = now_s
        self.paying = Paying(self.wait_s)
        self.rounds = Rounds(now_s)
        self._waiting_max = waiting_max
        self._all_waiting_max = all_waiting_max
        self._waiting = 0
        self._lines: dict[str, Line] = {}
        self._left = self._leave
        self._slices: deque[asyncio.Future[None]] = deque()
        self._resting: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many queries and snapshots wait for their turn."""
        return self._waiting

    @contextlib.asynccontextmanager
    async def turn(self, user: str, place: Place | None = None) -> AsyncGenerator[None]:
        """Wait for a turn among the requests of `user`, and hold it during the block.

        `place`: it has the turn already.

        Raises:
            Crowded: too many wait already.
        """
        if place is not None:
            try:
                yield
            finally:
                place.leave()
            return
        line = self._line(user)
        try:
            if line.waiting or not self._may_go(user, line):
                await self._wait(user, line)
            else:
                line.running += 1
            try:
                yield
            finally:
                line.running -= 1
                self._advance(user, line)
        finally:
            self._end_if_empty(line)

    def stand_in_line(self, user: str, begin: Callable[[Place], None]) -> Place | None:
        """Call `begin` at a turn of `user`, which is held until the place is left. None: too many wait."""
        line = self._line(user)
        waits = line.waiting or not self._may_go(user, line)
        if waits and self._is_full(line):
            return None
        place = Place(line, begin, self._left)
        if waits:
            self._add(line, place)
        else:
            line.running += 1
            place.set_result(None)
        return place

    def _leave(self, places: Sequence[Place]) -> None:
        for place in places:
            if place.has_turn:
                place.line.running -= 1
            else:
                place.line.waiting.remove(place)
                self._waiting -= 1
            place.waits = place.has_turn = False
        for line in {place.line for place in places}:
            self._advance(line.user, line)
            self._end_if_empty(line)

    def _line(self, user: str) -> Line:
        line = self._lines.get(user)
        if line is None:
            line = self._lines[user] = Line(user)
        return line

    def _end_if_empty(self, line: Line) -> None:
        # One that was cancelled may notice late, when the user already has another line.
        if not line.running and not line.waiting and self._lines.get(line.user) is line:
            del self._lines[line.user]
            if line.timer is not None:
                line.timer.cancel()

    def crowded(self, user: str) -> bool:
        """Whether too many requests of this user wait to read further ones from its connections."""
        line = self._lines.get(user)
        return line is not None and 2 * len(line.waiting) >= self._part()

    def must_wait(self, user: str) -> bool:
        """Whether `fair` would wait."""
        # Most owe little, and no query waits: then neither the time nor a line is looked at.
        shares = self.shares
        if shares.owed_s(user) > FREE_S and shares.wait_s(user, self._now_s()) > 0:
            return True
        return bool(self._lines) and self.crowded(user)

    async def fair(self, user: str) -> None:
        """Wait until `user` owes no more time than is free and is not `crowded`."""
        while self.crowded(user):  # noqa: ASYNC110  the line moves often; polling is enough
            await asyncio.sleep(CROWDED_S)
        await self.paid_in_full(user)

    async def paid_in_full(self, user: str) -> None:
        """Wait until `user` owes no more time than is free.

        Many connections of a user may wake together. The first continues and is charged, so the next must
        check again.
        """
        while (wait_s := self.shares.wait_s(user, self._now_s())) > 0:  # noqa: ASYNC110  see above
            await asyncio.sleep(wait_s)

    def wait_s(self, user: str) -> float:
        """How long `user` has to wait until it owes no more time than is free."""
        return self.shares.wait_s(user, self._now_s())

    def may_go(self, user: str) -> bool:
        """Whether `user` owes no more time than is free."""
        return self.wait_s(user) <= 0

    async def paid(self, user: str) -> None:
        """Wait in the line of `user` until it owes no more time than is free. See `paying`."""
        await self.paying.paid(user)

    async def paid_soon(self, user: str) -> None:
        """As `paid`.

        Raises:
            Crowded: too many wait already.
        """
        if self.paying.waiting(user) >= self._waiting_max:
            raise Crowded(user)
        await self.paying.paid(user)

    def charge(self, user: str, spent_s: float, now_s: float | None = None) -> None:
        """Charge `user` for `spent_s` seconds, spent on the loop or on another thread."""
        self._charge(user, spent_s, self._now_s() if now_s is None else now_s)

    def charge_since(self, user: str, began_s: float) -> None:
        """Charge `user` for the time of the loop from `began_s` until now."""
        now_s = self._now_s()
        self._charge(user, now_s - began_s, now_s)

    def _charge(self, user: str, spent_s: float, now_s: float) -> None:
        overhead = self._overhead
        if now_s >= overhead.due_s:
            overhead.look(now_s, self._process_s())
        self.shares.charge(user, overhead.charged(spent_s), now_s)

    async def slice[T](self, user: str, work: Callable[[], T | Awaitable[T]]) -> T:
        """When it is its turn, do one slice of long work for `user`, or wait for another process to do it.

        It is charged here unless the task acts for `user`, since all of its steps are charged then.
        """
        if self._resting is not None:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._slices.append(turn)
            await turn
        else:
            self._rest()
        began_s = self._now_s()
        try:
            made = work()
        finally:
            if acting_user() != user:
                self.charge_since(user, began_s)
        return await made if isinstance(made, Awaitable) else made

    async def join(self, user: str, pieces: Iterator[bytes], bytes_max: int) -> bytes | None:
        """Join `pieces`, each made as a slice of its own. None as soon as they exceed `bytes_max`."""
        made: list[bytes] = []
        size = 0
        while (piece := await self.slice(user, partial(next, pieces, b""))) != b"":
            size += len(piece)
            if size > bytes_max:
                return None
            made.append(piece)
        return await self.slice(user, partial(b"".join, made))

    def _rest(self) -> None:
        rest_s = REST_S if self.shares.contended(self._now_s()) else 0
        self._resting = asyncio.get_running_loop().call_later(rest_s, self._next_slice)

    def _next_slice(self) -> None:
        self._resting = None
        while self._slices:
            turn = self._slices.popleft()
            if not turn.done():
                turn.set_result(None)
                self._rest()
                return

    def _may_go(self, user: str, line: Line) -> bool:
        return line.running < AT_ONCE and self.shares.wait_s(user, self._now_s()) <= 0

    def _part(self) -> int:
        """How many requests of a user may wait, while all users together ask for much."""
        if self._waiting >= 2 * self._all_waiting_max:
            return 1
        return min(self._waiting_max, max(1, self._all_waiting_max // max(1, len(self._lines))))

    def _is_full(self, line: Line) -> bool:
        many = self._waiting >= self._all_waiting_max
        return len(line.waiting) >= (self._part() if many else self._waiting_max)

    def _add(self, line: Line, waiting: asyncio.Future[None] | Place) -> None:
        line.waiting.append(waiting)
        self._waiting += 1
        self._advance(line.user, line)

    async def _wait(self, user: str, line: Line) -> None:
        if self._is_full(line):
            raise Crowded(user)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(line, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):
                    line.waiting.remove(turn)
                    self._waiting -= 1
            else:  # it got its turn, and leaves without using it
                line.running -= 1
            self._advance(user, line)
            raise
        finally:
            del turn

    def _advance(self, user: str, line: Line) -> None:
        """Give turns to those that may have one. If `user` must first owe less, look again at that time."""
        while line.waiting and self._may_go(user, line):
            turn = line.waiting.popleft()
            self._waiting -= 1
            if not turn.done():
                line.running += 1
                turn.set_result(None)
        if line.waiting and not line.running and line.timer is None:
            wait_s = self.shares.wait_s(user, self._now_s())
            line.timer = asyncio.get_running_loop().call_later(wait_s, self._again, user, line)

    def _again(self, user: str, line: Line) -> None:
        line.timer = None
        self._advance(user, line)
