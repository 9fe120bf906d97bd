"""Whose turn it is: large answers of one user queue behind each other, long work goes slice by slice."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from typing import Final

from huahuo.transport.server.overhead import Overhead
from huahuo.transport.server.shares import Shares

AT_ONCE: Final = 4
"""Queries and snapshots of one user that are worked on at once; one while it owes time (`shares`)."""
WAITING_MAX: Final = 256
"""From half of this on, that user's connections are not listened to; beyond, queries are refused (`busy`)."""
CROWDED_S: Final = 0.5
PAID_S_MAX: Final = 5.0
"""A command waits no longer than this for its user to have paid, so that none is starved among many."""
REST_S: Final = 0.002
"""Between two slices, where several users have something to do."""


class Crowded(Exception):  # noqa: N818  a fact about the queue
    """Too many queries of this user wait already."""


class _Line:
    """One user's queue; it exists while anything is in it."""

    __slots__ = ("running", "timer", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.timer: asyncio.TimerHandle | None = None
        self.waiting: deque[asyncio.Future[None]] = deque()


class Turns:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self,
        shares: Shares,
        now_s: Callable[[], float],
        *,
        process_s: Callable[[], float] = float,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        """`process_s`: the processor time of the process; without it charges count as they are."""
        self.shares = shares
        self._process_s = process_s
        self._overhead = Overhead(now_s(), process_s())
        self._now_s = now_s
        self._waiting_max = waiting_max
        self._lines: dict[str, _Line] = {}
        self._slices: deque[asyncio.Future[None]] = deque()
        self._resting: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many queries and snapshots wait for their turn."""
        return sum(len(line.waiting) for line in self._lines.values())

    @contextlib.asynccontextmanager
    async def turn(self, user: str) -> AsyncGenerator[None]:
        """Wait for a turn among what `user` asked for, and have it.

        Raises:
            Crowded: too many wait.
        """
        line = self._lines.get(user)
        if line is None:
            line = self._lines[user] = _Line()
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
            if not line.running and not line.waiting:
                self._lines.pop(user, None)
                if line.timer is not None:
                    line.timer.cancel()

    def crowded(self, user: str) -> bool:
        """Whether so much of this user's waits that no more should be taken in."""
        line = self._lines.get(user)
        return line is not None and 2 * len(line.waiting) >= self._waiting_max

    async def fair(self, user: str) -> None:
        """Wait until `user` owes no more time than is free, and its line is shorter."""
        while self.crowded(user):  # noqa: ASYNC110  the line moves all the time; half a second will do
            await asyncio.sleep(CROWDED_S)
        await self.paid(user)

    async def paid(self, user: str) -> None:
        """Wait until `user` owes no more time than is free.

        Many connections of a user wake at once: the first goes on and is charged, the next looks again.
        """
        while (wait_s := self.shares.wait_s(user, self._now_s())) > 0:  # noqa: ASYNC110  see above
            await asyncio.sleep(wait_s)

    def wait_s(self, user: str) -> float:
        """How long `user` has to wait until it owes no more time than is free."""
        return self.shares.wait_s(user, self._now_s())

    def may_go(self, user: str) -> bool:
        """Whether `user` owes no more time than is free."""
        return self.wait_s(user) <= 0

    async def paid_in_time(self, user: str) -> None:
        """As `paid`, for at most `PAID_S_MAX`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAID_S_MAX):
                await self.paid(user)

    def charge(self, user: str, spent_s: float) -> None:
        """So much was spent for `user`, on the loop or on another thread."""
        self._charge(user, spent_s, self._now_s())

    def charge_since(self, user: str, began_s: float) -> None:
        """The loop was held from `began_s` until now for `user`."""
        now_s = self._now_s()
        self._charge(user, now_s - began_s, now_s)

    def _charge(self, user: str, spent_s: float, now_s: float) -> None:
        overhead = self._overhead
        if now_s >= overhead.due_s:
            overhead.look(now_s, self._process_s())
        self.shares.charge(user, overhead.charged(spent_s), now_s)

    async def slice[T](self, user: str, work: Callable[[], T]) -> T:
        """Do a slice of something for `user` that takes long in all, when it is its turn."""
        if self._resting is not None:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._slices.append(turn)
            await turn
        else:
            self._rest()
        began_s = self._now_s()
        try:
            return work()
        finally:
            self.charge_since(user, began_s)

    async def join(self, user: str, pieces: Iterator[bytes], bytes_max: int) -> bytes | None:
        """All pieces, each made when it is its turn; None as soon as they are longer than `bytes_max`."""
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

    def _may_go(self, user: str, line: _Line) -> bool:
        return line.running < AT_ONCE and self.shares.wait_s(user, self._now_s()) <= 0

    async def _wait(self, user: str, line: _Line) -> None:
        if len(line.waiting) >= self._waiting_max:
            raise Crowded(user)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append(turn)
        self._advance(user, line)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):
                    line.waiting.remove(turn)
            else:  # it was called, and goes away
                line.running -= 1
            self._advance(user, line)
            raise
        finally:
            del turn

    def _advance(self, user: str, line: _Line) -> None:
        """Call who may go; if that is a matter of time, come back then."""
        while line.waiting and self._may_go(user, line):
            turn = line.waiting.popleft()
            if not turn.done():
                line.running += 1
                turn.set_result(None)
        if line.waiting and not line.running and line.timer is None:
            wait_s = self.shares.wait_s(user, self._now_s())
            line.timer = asyncio.get_running_loop().call_later(wait_s, self._again, user, line)

    def _again(self, user: str, line: _Line) -> None:
        line.timer = None
        self._advance(user, line)
