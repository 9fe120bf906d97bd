"""Fair queueing for the loop: who goes next, where users ask for more than one turn can do.

* `Rounds`: what came is handled in the turn in which it was read, until that turn has taken `TURN_S`. What
  comes later waits in a fair queue, and each turn handles some of it. The loop's time is charged to whom it
  was for. So an owner that asks rarely waits for a turn or two, however many others ask for more than can be
  done. Nothing waits while there is time, so an owner alone is never slowed.
* `Lines`: a line for each user, which goes on once its user owes no more time than is free. If all that
  waits looked at the debt by itself, all would go at once when it is paid.
* `Turns`: large answers of one user queue behind each other in such a line, other work in a second one. Long
  work is done slice by slice.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextvars import copy_context
from functools import partial
from typing import Any, Final

import structlog

from huahuo.eventstore.executor import acting_user
from huahuo.eventstore.fair_queue import FairQueue, Turn
from huahuo.transport.load.shares import FREE_S, Overhead, Shares

TURN_S: Final = 0.003
"""A turn that has handled messages for this long ends with the owner whose messages it handles."""
VISIT_S: Final = 0.002
"""How long it handles those of one owner; the last one may take longer. Then the next owner comes."""
TASK_S: Final = 0.001
"""What a task is taken to need that waits by `turn`: it runs after the turn that lets it go."""
FEW: Final = 4
"""An owner with more than this many connections or requests in line is due later than one with few."""
LATER_S: Final = 0.005
"""So much later, in time that each owner has: one who asks rarely comes before those who ask for much."""
LOOKS: Final = 500
"""A turn passes over this many owners without room, in 1 to 2 ms; the next one goes on from there."""
HELD_S: Final = 0.005
"""After this, an owner is looked at again that has no room."""

_log = structlog.get_logger(__name__)


class Rounds:
    """Whose messages are handled next, where one turn of the loop cannot handle all that have come.

    All methods belong to the loop's thread. A piece of work does not wait. Pieces of one owner begin in the
    order in which they came.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.room: list[Callable[[str], bool]] = []
        """Each says whether what an owner's next message asks for has room. Until then its line stands."""
        self._now_s = now_s
        self._until_s = 0.0
        self._lent_s = 0.0
        self._in_turn = False
        """`_take_turn` runs, or is called in the loop's next turn."""
        self._held: asyncio.TimerHandle | None = None
        """`_take_turn` is called later: all that waits is without room."""
        self._queue: FairQueue[Callable[[], object]] = FairQueue()
        self._handled = ""

    @property
    def waiting(self) -> int:
        """How many connections and requests wait."""
        return sum(map(len, self._queue.lines.values()))

    def may_begin(self, owner: str) -> bool:
        """Whether a message of `owner` may be handled now. If not, it has to `wait`."""
        if owner == self._handled:
            return True
        if not self._in_turn and self._held is None:
            self._take_soon()
            self._until_s = self._now_s() + TURN_S
            return True
        return not self._queue.lines and self._now_s() < self._until_s

    def wait(self, owner: str, go: Callable[[], object], *, short: bool = True) -> None:
        """Call `go` when it is the turn of `owner`. It may call `wait` again.

        `short`: it is due no later than what has few messages.
        """
        line = self._queue.put(owner, go, 0.0 if short else LATER_S)
        if len(line) == FEW + 1:
            self._queue.delay(owner, LATER_S)
        if self._held is not None:
            self._held.cancel()
            self._held = None
        if not self._in_turn:
            self._take_soon()

    async def turn(self, owner: str) -> None:
        """As `wait`, for a task."""
        if self.may_begin(owner):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        go = partial(self._let_go, turn)
        self.wait(owner, go)
        try:
            await turn
        except asyncio.CancelledError:
            self._queue.remove(owner, go)
            raise

    def _let_go(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            turn.set_result(None)
            self._lent_s += TASK_S

    def _take_soon(self) -> None:
        self._in_turn = True
        asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """A turn begins: handle some of what waits."""
        queue = self._queue
        self._held = None
        self._in_turn = bool(queue.lines)
        if not queue.lines:
            return
        self._lent_s = 0.0
        self._until_s = self._now_s() + TURN_S
        handled = True  # also if a piece ends the turn by a fault that is none of ours
        try:
            handled = self._take()
        finally:
            if handled or not queue.lines:
                self._take_soon()
            else:
                self._in_turn = False
                self._held = asyncio.get_running_loop().call_later(HELD_S, self._take_turn)

    def _take(self) -> bool:
        """Visit owners until the time is over. False: nobody had room."""
        handled, without_room, queue = False, list[Turn](), self._queue
        try:
            while len(without_room) < LOOKS and (turn := queue.next()) is not None:
                if all(room(turn[2]) for room in self.room):
                    handled = True
                    self._visit(turn)
                    if self._time_s() >= self._until_s:
                        break
                else:
                    without_room.append(turn)
        finally:
            if without_room:
                queue.pass_over(without_room)
        return handled

    def _visit(self, turn: Turn) -> None:
        owner = self._handled = turn[2]
        pieces, began_s = self._queue.lines[owner], self._time_s()
        try:
            for _ in range(len(pieces)):
                try:
                    pieces.popleft()()
                except Exception:  # noqa: BLE001  one owner's fault must not keep the others waiting
                    _log.exception("waiting_message_failed")
                if self._time_s() >= began_s + VISIT_S:
                    break
        finally:
            self._handled = ""
            self._queue.charge(owner, self._time_s() - began_s)
            self._queue.back(turn)

    def _time_s(self) -> float:
        return self._now_s() + self._lent_s


class Crowded(Exception):  # noqa: N818  a fact about the queue
    """Too many queries of this user wait already; this one was refused."""


class Place:
    """A place in a user's line, then a turn. A query that waits as a task takes four times as much.

    `begin` is called with the place at its turn, maybe at once, in the context of its maker.
    """

    __slots__ = ("_begin", "_context", "_line", "_lines", "has_turn", "waits")

    def __init__(self, lines: "Lines", line: "_Line", begin: Callable[["Place"], None]) -> None:
        self._lines = lines
        self._line = line
        self._begin = begin
        self._context = copy_context()
        self.waits = True
        self.has_turn = False

    def go(self) -> None:
        """It has its turn."""
        self.waits, self.has_turn = False, True
        self._context.run(self._begin, self)

    def leave(self, _task: asyncio.Task[Any] | None = None) -> None:
        """Wait no more, or give the turn back. Idempotent."""
        self._lines.leave(self, self._line)

    cancel = leave
    """As of a task."""


class _Line:
    """One user's; it exists while anything is in it. `until_s`: when the first goes whatever is owed."""

    __slots__ = ("running", "timer", "until_s", "user", "waiting")

    def __init__(self, user: str, until_s: float) -> None:
        self.user = user
        self.running = 0
        self.timer: asyncio.TimerHandle | None = None
        self.until_s = until_s
        self.waiting: deque[Place] = deque()


class Lines:
    """A line for each user. At most `at_once` of a user have their turn, none begins while it owes time.

    `wait_s`: how long a user has to wait until it owes no more than is free. The first in a line waits for
    that at most `patience_s`.
    """

    def __init__(
        self, wait_s: Callable[[str], float], *, at_once: int = 1, patience_s: float = math.inf
    ) -> None:
        self.waiting = 0
        """How many wait for their turn."""
        self._wait_s = wait_s
        self._at_once = at_once
        self._patience_s = patience_s
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def of(self, user: str) -> int:
        """How many of this user wait."""
        line = self._lines.get(user)
        return 0 if line is None else len(line.waiting)

    def stand(self, user: str, begin: Callable[[Place], None]) -> Place:
        """Call `begin` at a turn of `user`, which is held until the place is left."""
        line = self._lines.get(user)
        if line is None:
            until_s = asyncio.get_running_loop().time() + self._patience_s
            line = self._lines[user] = _Line(user, until_s)
        place = Place(self, line, begin)
        line.waiting.append(place)
        self.waiting += 1
        if line.timer is None:
            self._advance(line)
        return place

    async def turn(self, user: str) -> Place:
        """As `stand`, for a task."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = self.stand(user, lambda _: None if turn.done() else turn.set_result(None))
        try:
            await turn
        except asyncio.CancelledError:
            place.leave()
            raise
        return place

    def leave(self, place: Place, line: _Line) -> None:
        """See `Place.leave`."""
        if place.has_turn:
            line.running -= 1
        elif place.waits:
            line.waiting.remove(place)
            self.waiting -= 1
        place.waits, held = False, place.has_turn
        place.has_turn = False
        if held or not line.waiting:
            self._advance(line)

    def _advance(self, line: _Line) -> None:
        """Give turns to those that may have one. If the user must first owe less, look again at that time."""
        loop = asyncio.get_running_loop()
        while line.waiting and line.running < self._at_once:
            wait_s = min(self._wait_s(line.user), line.until_s - loop.time())
            if wait_s > 0:
                if line.timer is None:
                    line.timer = loop.call_later(wait_s, self._again, line)
                return
            place = line.waiting.popleft()
            self.waiting -= 1
            line.running += 1
            line.until_s = loop.time() + self._patience_s
            place.go()
        # One that was cancelled may notice late, when the user already has another line.
        if not line.running and not line.waiting and self._lines.get(line.user) is line:
            del self._lines[line.user]
            if line.timer is not None:
                line.timer.cancel()

    def _again(self, line: _Line) -> None:
        line.timer = None
        self._advance(line)


PAID_S_MAX: Final = 5.0
"""The first in a line for work waits at most this long, so that no user starves among many."""
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
        self.rounds = Rounds(now_s)
        self._waiting_max = waiting_max
        self._all_waiting_max = all_waiting_max
        self._requests = Lines(self.wait_s, at_once=AT_ONCE)
        self.work = Lines(self.wait_s, patience_s=PAID_S_MAX)
        """What waits in `paid`."""
        self._slices = Lines(lambda _user: 0.0)

    @property
    def waiting(self) -> int:
        """How many queries and snapshots wait for their turn."""
        return self._requests.waiting

    @contextlib.asynccontextmanager
    async def turn(self, user: str, place: Place | None = None) -> AsyncGenerator[None]:
        """Wait for a turn among the requests of `user`, and hold it during the block.

        `place`: it has the turn already.

        Raises:
            Crowded: too many wait already.
        """
        if place is None:
            if self._is_full(user):
                raise Crowded(user)
            place = await self._requests.turn(user)
        try:
            yield
        finally:
            place.leave()

    def stand_in_line(self, user: str, begin: Callable[[Place], None]) -> Place | None:
        """Call `begin` at a turn of `user`, which is held until the place is left. None: too many wait."""
        return None if self._is_full(user) else self._requests.stand(user, begin)

    def crowded(self, user: str) -> bool:
        """Whether too many requests of this user wait to read further ones from its connections."""
        waiting = self._requests.of(user)
        return waiting > 0 and 2 * waiting >= self._part()

    def must_wait(self, user: str) -> bool:
        """Whether `fair` would wait."""
        # Most owe little, and no query waits: then neither the time nor a line is looked at.
        if self.shares.owed_s(user) > FREE_S and self.wait_s(user) > 0:
            return True
        return bool(self._requests.waiting) and self.crowded(user)

    async def fair(self, user: str) -> None:
        """As `paid`, but wait until `user` is not `crowded` first."""
        while self.crowded(user):  # noqa: ASYNC110  the line moves often; polling is enough
            await asyncio.sleep(CROWDED_S)
        await self.paid(user)

    def wait_s(self, user: str) -> float:
        """How long `user` has to wait until it owes no more time than is free."""
        return self.shares.wait_s(user, self._now_s())

    def may_go(self, user: str) -> bool:
        """Whether `user` owes no more time than is free."""
        return self.wait_s(user) <= 0

    async def paid(self, user: str) -> None:
        """Wait in the line of `user` until it owes no more time than is free: one piece of work at a time."""
        if not self.is_next(user):
            place = await self.work.turn(user)
            asyncio.get_running_loop().call_soon(place.leave)  # it is charged before

    def is_next(self, user: str) -> bool:
        """Whether `paid` would not wait."""
        return not self.work.of(user) and self.may_go(user)

    async def paid_soon(self, user: str) -> None:
        """As `paid`.

        Raises:
            Crowded: too many wait already.
        """
        if self.work.of(user) >= self._waiting_max:
            raise Crowded(user)
        await self.paid(user)

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
        place = await self._slices.turn("")
        rest_s = REST_S if self.shares.contended(self._now_s()) else 0
        asyncio.get_running_loop().call_later(rest_s, place.leave)
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

    def _part(self) -> int:
        """How many requests of a user may wait, while all users together ask for much."""
        if self.waiting >= 2 * self._all_waiting_max:
            return 1
        return min(self._waiting_max, max(1, self._all_waiting_max // max(1, len(self._requests))))

    def _is_full(self, user: str) -> bool:
        many = self.waiting >= self._all_waiting_max
        return self._requests.of(user) >= (self._part() if many else self._waiting_max)
