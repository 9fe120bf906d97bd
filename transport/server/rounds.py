"""Whose messages are handled next, where one turn of the loop cannot handle all that have come.

What came is handled in the turn in which it was read, until that turn has taken `TURN_S`. What comes later
waits in a line for each owner, and each turn handles some of it: first those who had nothing waiting before,
then all others one after the other. So an owner that asks rarely waits for a turn or two, however many
others ask for more than can be done. Nothing waits while there is time, so an owner alone is never slowed.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

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
    """See the module. All methods belong to the loop's thread. A piece of work does not wait.

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
