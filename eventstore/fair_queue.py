"""Weighted fair queueing: first come first served in each owner's line, and a fair order between lines. Pure.

It serves the writer (costs in bytes, known before), the loop and the threads (costs in seconds, charged
after).
"""

from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush

_KEPT_MAX = 1024


type Turn = tuple[float, int, str]
"""When it is due, a number that keeps the order of those due together, the owner."""


class FairQueue[T]:
    """A line for each owner that has an item. The owner that is due first goes next.

    An owner is due after the cost of its first item, counted from where the queue stands when it comes, or
    from the end of what it had if that is later. What is charged after its turn moves its next one. So each
    owner has the same part of the cost, and one with a small item waits for no other's large one.

    Invariant: an owner with a line is due once, or has its turn.
    """

    __slots__ = ("_due", "_had", "_number", "_stands", "lines")

    def __init__(self) -> None:
        self.lines: dict[str, deque[T]] = {}
        """What waits, by owner. Whoever has its turn takes its items here."""
        self._due: list[Turn] = []
        """A heap."""
        self._had: dict[str, float] = {}
        """Where the next turn of an owner is counted from."""
        self._stands = 0.0
        self._number = 0

    def put(self, owner: str, item: T, cost: float = 0.0) -> deque[T]:
        """Queue `item` behind its owner's other items; returns its line. `cost`: as far as it is known."""
        line = self.lines.get(owner)
        if line is None:
            line = self.begin(owner, cost)
        line.append(item)
        return line

    def begin(self, owner: str, cost: float) -> deque[T]:
        """A line for `owner`, who has none. An item must follow."""
        self._number += 1
        self._push(owner, self._number, cost)
        line = self.lines[owner] = deque()
        return line

    def next(self) -> Turn | None:
        """The turn of the owner that is due first. `back`, `leave_out` or `pass_over` must follow."""
        while self._due:
            due, number, owner = turn = heappop(self._due)
            if self._had.get(owner, 0.0) > due:  # charged meanwhile
                self._push(owner, number, 0.0)
                continue
            self._had[owner] = due
            return turn
        return None

    def back(self, turn: Turn, cost: float = 0.0) -> None:
        """The turn is over. Its owner waits for the next one, if anything is left in its line."""
        _, number, owner = turn
        if self.lines[owner]:
            self._push(owner, number, cost)
            return
        del self.lines[owner]
        if not self.lines:
            self.clear()
        elif len(self._had) > _KEPT_MAX + 2 * len(self.lines):
            self._had = {name: had for name, had in self._had.items() if had > self._stands}

    def reached(self, turn: Turn) -> None:
        """The cost was known before: who comes now is counted from where this turn was due."""
        self._stands = max(self._stands, turn[0])

    def leave_out(self, turns: Iterable[Turn]) -> None:
        """Nothing was taken in these turns: they come again, where they were."""
        for turn in turns:
            heappush(self._due, turn)

    def pass_over(self, turns: Iterable[Turn]) -> None:
        """As `leave_out`, but behind all that wait now."""
        last = max((*self._due, *turns))[0]
        for _, _, owner in turns:
            self._number += 1
            heappush(self._due, (last, self._number, owner))

    def delay(self, owner: str, cost: float) -> None:
        """The next turn of `owner` comes so much later."""
        self._had[owner] = max(self._stands, self._had.get(owner, 0.0)) + cost

    def charge(self, owner: str, cost: float) -> None:
        """What `owner` had did cost this much more. Without anybody who waits, nobody has to be paid back."""
        if self.lines:
            self.delay(owner, cost)
            self._stands += cost / len(self.lines)  # else newcomers without end would all come first

    def remove(self, owner: str, item: T) -> bool:
        """Remove an item. False: it has left. An owner with nothing left is forgotten at its next turn."""
        line = self.lines.get(owner, ())
        if item in line:
            self.lines[owner].remove(item)
            return True
        return False

    def clear(self) -> None:
        """Nothing waits any more."""
        self.lines.clear()
        self._due.clear()
        self._had.clear()
        self._stands = 0.0

    def _push(self, owner: str, number: int, cost: float) -> None:
        heappush(self._due, (max(self._stands, self._had.get(owner, 0.0)) + cost, number, owner))


def has_share(mine: int, more: int, waiting: int, owners: int, *, per_owner: int, most: int) -> bool:
    """Whether an owner of whom `mine` wait may have `more`, where `waiting` wait of `owners` in all.

    An owner of whom nothing waits may have one of any size. Beyond `most`, each still has an even share of
    it, so that a few who fill it do not lock out the others.
    """
    if mine and mine + more > per_owner:
        return False
    return waiting + more <= most or mine + more <= most // (owners + (mine == 0))
