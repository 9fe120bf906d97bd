"""Fair queueing for the loop: who goes next, where users ask for more than one turn can do.

* `Turns`: large answers of one user queue behind each other, and long work is done slice by slice. A user
  has one line (`Line`): tasks that wait by a future, and work that has no task yet.
* `Paying`: work that goes on once its user owes no more time than is free, one piece at a time. A user may
  have thousands of pieces. If each of them waited by itself, all would look at the debt whenever it might
  be paid, and all would go at once at the end of their patience.
* `Rounds`: what came is handled in the turn in which it was read, until that turn has taken `TURN_S`. What
  comes later waits in a line for each owner, and each turn handles some of it: first those who had nothing
  waiting before, then all others one after the other. So an owner that asks rarely waits for a turn or
  two, however many others ask for more than can be done. Nothing waits while there is time, so an owner
  alone is never slowed.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, Final

import structlog

from huahuo.eventstore.executor import acting_user
from huahuo.transport.load.shares import FREE_S, Overhead, Shares


class Place:
    """A place in a line, then a turn. A query that waits as a task takes four times as much.

    `begin` is called with the place at its turn, maybe at once, in the context of its maker. `left` is called
    with places that are left together.
    """

    __slots__ = ("_begin", "_context", "_left", "has_turn", "line", "waits")

    def __init__(
        self, line: "Line", begin: Callable[["Place"], None], left: Callable[[Sequence["Place"]], None]
    ) -> None:
        self.line = line
        self._begin = begin
        self._left = left
        self._context = copy_context()
        self.waits = True
        self.has_turn = False

    def done(self) -> bool:
        """As of a future: whether it waits no more."""
        return not self.waits

    def set_result(self, _result: None) -> None:
        """As of a future: it has its turn."""
        self.waits, self.has_turn = False, True
        self._context.run(self._begin, self)

    def leave(self, _task: asyncio.Task[Any] | None = None) -> None:
        """Wait no more, or give the turn back. Idempotent."""
        if self.waits or self.has_turn:
            self._left((self,))

    cancel = leave
    """As of a task."""

    @staticmethod
    def leave_all(places: Sequence["Place"]) -> None:
        """Leave `places`, which wait, together: else each that is left might give a turn to the next."""
        if places:
            places[0]._left(places)  # noqa: SLF001  of this class


class Line:
    """One user's line for turns: tasks that wait by a future, and work that has no task yet.

    It exists while anything is in it.
    """

    __slots__ = ("running", "timer", "user", "waiting")

    def __init__(self, user: str) -> None:
        self.user = user
        self.running = 0
        self.timer: asyncio.TimerHandle | None = None
        self.waiting: deque[asyncio.Future[None] | Place] = deque()


PAID_S_MAX: Final = 5.0
"""The first in a line waits at most this long, so that no user starves among many."""


class _DebtLine:
    """One user's; it exists while anything waits. `until_s`: when the first one goes whatever is owed."""

    __slots__ = ("timer", "until_s", "waiting")

    def __init__(self) -> None:
        self.timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self.until_s = 0.0
        self.waiting: deque[asyncio.Future[None]] = deque()


class Paying:
    """Lines of work that goes on once its user owes no more time than is free, one piece at a time.

    `wait_s`: how long a user has to wait until it owes no more than is free.
    """

    def __init__(self, wait_s: Callable[[str], float]) -> None:
        self._wait_s = wait_s
        self._lines: dict[str, _DebtLine] = {}

    def waiting(self, user: str) -> int:
        """How many wait in this user's line."""
        line = self._lines.get(user)
        return 0 if line is None else len(line.waiting)

    async def paid(self, user: str) -> None:
        """Return once `user` owes no more time than is free, and all that came before have gone on."""
        line = self._lines.get(user)
        if line is None:
            if self._wait_s(user) <= 0:
                return
            line = self._lines[user] = _DebtLine()
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        line.waiting.append(turn)
        if line.timer is None:
            line.until_s = loop.time() + PAID_S_MAX
            self._look(user, line)
        try:
            await turn
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                line.waiting.remove(turn)
            raise

    def _look(self, user: str, line: _DebtLine) -> None:
        """Let the first one go if it may. It is charged before the next look, which comes a turn later."""
        loop = asyncio.get_running_loop()
        if not line.waiting:
            del self._lines[user]
            return
        wait_s = min(self._wait_s(user), line.until_s - loop.time())
        if wait_s > 0:
            line.timer = loop.call_later(wait_s, self._look, user, line)
            return
        turn = line.waiting.popleft()
        if not turn.done():
            turn.set_result(None)
        line.until_s = loop.time() + PAID_S_MAX
        line.timer = loop.call_soon(self._look, user, line)


TURN_S: Final = 0.003
"""A turn that has handled messages for this long ends with the owner whose messages it handles."""
VISIT_S: Final = 0.002
"""How long it handles those of one owner; the last one may take longer. Then the next owner comes."""
TASK_S: Final = 0.001
"""What a task is taken to need that waits by `turn`: it runs after the turn that lets it go."""
FEW: Final = 4
"""An owner with more than this many connections or requests in line does not come first."""
FIRST_SHARE: Final = 0.01
"""Of the time: what an owner may have by coming first, above its part of the rounds."""
FIRST_S: Final = 0.02
"""As much of that may be had at once."""
LOOKS: Final = 500
"""A turn passes over this many owners without room, in 1 to 2 ms; the next one goes on from there."""
_KEPT_MAX: Final = 10_000
HELD_S: Final = 0.005
"""After this, an owner is looked at again that has no room."""

_log = structlog.get_logger(__name__)


class Rounds:
    """Whose messages are handled next, where one turn of the loop cannot handle all that have come.

    All methods belong to the loop's thread. A piece of work does not wait.

    Invariants: pieces of one owner begin in the order in which they came; while an owner has a line, it is in
    exactly one of the two queues, or is being handled.
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
        self._lines: dict[str, deque[Callable[[], object]]] = {}
        """What waits of each owner; a line exists while anything waits, or is being handled."""
        self._fresh: deque[str] = deque()
        self._rest: deque[str] = deque()
        self._handled = ""
        self._firsts: dict[str, float] = {}
        """Of owners that came first: when all of that has been made up for by the time that passed."""

    @property
    def waiting(self) -> int:
        """How many connections and requests wait."""
        return sum(map(len, self._lines.values()))

    def may_begin(self, owner: str) -> bool:
        """Whether a message of `owner` may be handled now. If not, it has to `wait`."""
        if owner == self._handled:
            return True
        if not self._in_turn and self._held is None:
            self._take_soon()
            self._until_s = self._now_s() + TURN_S
            return True
        return not self._lines and self._now_s() < self._until_s

    def wait(self, owner: str, go: Callable[[], object], *, fresh: bool = True) -> None:
        """Call `go` when it is the turn of `owner`. It may call `wait` again.

        `fresh`: it is short, and nothing of it waited before. If an owner has only a few such pieces, they
        come first, for half of each turn.
        """
        line = self._lines.get(owner)
        if line is None:
            line = self._lines[owner] = deque()
            (self._fresh if fresh else self._rest).append(owner)
        line.append(go)
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
            self._leave(owner, go)
            raise

    def _leave(self, owner: str, go: Callable[[], object]) -> None:
        """`go` waits no more. An owner with nothing left in its line is forgotten at its next turn."""
        with contextlib.suppress(ValueError):  # it had its turn
            self._lines.get(owner, deque()).remove(go)

    def _let_go(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            turn.set_result(None)
            self._lent_s += TASK_S

    def _take_soon(self) -> None:
        self._in_turn = True
        asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """A turn begins: handle some of what waits."""
        self._held = None
        self._in_turn = bool(self._lines)
        if not self._lines:
            return
        self._lent_s = 0.0
        now_s = self._now_s()
        self._until_s = now_s + TURN_S
        handled = True  # also if a piece ends the turn by a fault that is none of ours
        try:
            handled = self._take(self._fresh, now_s + (TURN_S / 2 if self._rest else TURN_S))
            handled |= self._take(self._rest, self._until_s)
        finally:
            if handled or self._fresh or not self._lines:
                self._take_soon()
            else:
                self._in_turn = False
                self._held = asyncio.get_running_loop().call_later(HELD_S, self._take_turn)

    def _take(self, owners: deque[str], until_s: float) -> bool:
        """Handle what waits of these owners, each of them at most once. False: nothing was handled."""
        handled, passed = False, 0
        for _ in range(len(owners)):
            owner = owners.popleft()
            first = owners is self._fresh
            if (first and not self._may_be_first(owner)) or not all(room(owner) for room in self.room):
                self._rest.append(owner)
                passed += 1
                if passed >= LOOKS:
                    break
                continue
            began_s = self._now_s() + self._lent_s
            self._visit(owner)
            if first:
                self._was_first(owner, began_s)
            handled = True
            if self._now_s() + self._lent_s >= until_s:
                break
        return handled

    def _may_be_first(self, owner: str) -> bool:
        made_up_s = self._firsts.get(owner, 0.0) - self._now_s()
        return len(self._lines[owner]) <= FEW and made_up_s * FIRST_SHARE < FIRST_S

    def _was_first(self, owner: str, began_s: float) -> None:
        now_s, firsts = self._now_s(), self._firsts
        spent_s = now_s + self._lent_s - began_s
        firsts[owner] = max(now_s, firsts.get(owner, 0.0)) + spent_s / FIRST_SHARE
        if len(firsts) > _KEPT_MAX:
            firsts.clear()  # more owners than that cannot each have a hundredth of the time

    def _visit(self, owner: str) -> None:
        pieces = self._lines[owner]
        until_s = self._now_s() + self._lent_s + VISIT_S
        self._handled = owner
        try:
            for _ in range(len(pieces)):
                try:
                    pieces.popleft()()
                except Exception:  # noqa: BLE001  one owner's fault must not keep the others waiting
                    _log.exception("waiting_message_failed")
                if self._now_s() + self._lent_s >= until_s:
                    break
        finally:
            self._handled = ""
            if pieces:
                self._rest.append(owner)
            else:
                del self._lines[owner]


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
    """Turns: large answers of one user queue behind each other, and long work is done slice by slice.

    All methods belong to the loop's thread.
    """

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
