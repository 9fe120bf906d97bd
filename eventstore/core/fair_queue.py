"""A queue with a line for each owner: first come first served within it, a fair order between lines. Pure.

`take` is bounded in bytes and in events. If several owners wait and one has more than `TURN_COST`, this is
weighted fair queueing: an item is due after its cost, counted from where the queue stands when it becomes
the first of its line, and the earliest due leaves first. So each owner has the same part of the cost, and
an owner with a small item waits for no other's large one. All wait for the group under way, so in such a
group an owner has more than `TURN_COST` only within bounds of a `SEVERAL`th. So it is for a while after
another wrote, since the next of its items may come just behind a large group.

Usually everything fits, or all is one owner's, and all leave in the order in which they came. So arrivals
are sorted into lines only when that is not so, or when the state of a line is asked for.

`has_room` says which users may still queue appends at the writer.
"""

from collections import deque
from heapq import heappop, heappush, heapreplace
from itertools import chain
from operator import itemgetter
from typing import Any, Final

SEVERAL = 4
"""The bounds of a group for large items of several owners are this part of the others."""
OTHERS_GROUPS = 64
"""So many groups after several owners wrote, a group of one owner is bounded as if another one waited."""
TURN_COST = 16 << 10
"""Bytes that an owner may add to a group that is larger; each event counts as at least `EVENT_COST`."""
EVENT_COST = 512
_TOO_LARGE_MAX = 64
"""Large items that one group passes over, to look for smaller ones behind them."""
ITEM_BYTES = 512
"""Memory of an item besides its content. It is counted, so that a bound in bytes also bounds the count."""

type _Entry[T] = tuple[int, T, int, int]
"""(number in the order of arrival, item, events, bytes)"""
type _First = tuple[int, int, str]
"""The first item of a line: (when it is due, its number, owner)"""
_number = itemgetter(0)
_item = itemgetter(1)


def cost_of(events: int, size: int) -> int:
    """What an item costs its owner."""
    return ITEM_BYTES + max(size, EVENT_COST * events)


class _Line[T]:
    """The waiting items of one owner; `bytes` includes `ITEM_BYTES` for each item."""

    __slots__ = ("bytes", "entries")

    def __init__(self) -> None:
        self.entries: deque[_Entry[T]] = deque()
        self.bytes = 0


class FairQueue[T]:
    """See the module.

    Invariants: `len` is the number of items; items of one owner leave in the order in which they came;
    an owner has a line only while it has an item.
    """

    def __init__(self) -> None:
        self.bytes = 0
        """Of all waiting content, including `ITEM_BYTES` for each item."""
        self._arrived: list[T] = []
        """Items that are in no line yet. Each came after every item that is in a line."""
        self._owners: list[str] = []
        self._counts: list[int] = []
        self._sizes: list[int] = []
        """Owner, events and bytes of each arrival. Lists, since the collector would track each tuple."""
        self._owner = ""
        """Of all arrivals, unless `_mixed`."""
        self._mixed = False
        self._lines: dict[str, _Line[T]] = {}
        self._first: list[_First] = []
        """A heap of the first items of all lines."""
        self._due = 0
        """Where the queue stands: the latest time at which anything was due that has left."""
        self._sorted = 0
        self._count = 0
        self._events = 0
        self._latest = ""
        """The owner of the newest group that was one owner's."""
        self._groups_left = 0
        """How many groups stay small, even if only one owner waits."""

    def __len__(self) -> int:
        return self._count

    @property
    def owners(self) -> int:
        """How many owners have an item waiting."""
        self._sort()
        return len(self._lines)

    def bytes_of(self, owner: str) -> int:
        """The size of the items of `owner`, counted as `bytes` counts."""
        self._sort()
        line = self._lines.get(owner)
        return 0 if line is None else line.bytes

    def put(self, owner: str, item: T, events: int, size: int) -> None:
        """Queue `item`, of `events` events and `size` bytes, behind its owner's other items."""
        if owner != self._owner:
            self._mixed = bool(self._arrived)
            self._owner = owner
        self._arrived.append(item)
        self._owners.append(owner)
        self._counts.append(events)
        self._sizes.append(size)
        self.bytes += size + ITEM_BYTES
        self._events += events
        self._count += 1

    def take(self, events_max: int, bytes_max: int) -> list[T]:
        """The next items, at least one if there is one, then as many as fit within both bounds."""
        size = self.bytes - self._count * ITEM_BYTES
        is_of_one = not self._mixed and self._is_of_one()
        others_write = self._note_owners(is_of_one)
        if SEVERAL * self._events <= events_max and SEVERAL * size <= bytes_max:
            return self._take_all()
        if is_of_one:
            if others_write:
                events_max, bytes_max = events_max // SEVERAL, bytes_max // SEVERAL
            if self._events <= events_max and size <= bytes_max:
                return self._take_all()
            return self._take_of_one(events_max, bytes_max)
        if not self._lines and self._events <= events_max and size <= bytes_max and not self._any_large():
            return self._take_all()
        self._sort()
        return self._take_fairly(events_max, bytes_max)

    def _is_of_one(self) -> bool:
        """Whether all that waits is of one owner, if that is so of the arrivals."""
        lines = self._lines
        return not lines or (len(lines) == 1 and (not self._arrived or self._owner in lines))

    def _note_owners(self, is_of_one: bool) -> bool:
        """Whether several owners wrote not long ago, so that one of them may come behind the next group.

        What has no owner is the service's own, which nobody waits for.
        """
        if is_of_one:
            owner = self._owner if self._arrived else next(iter(self._lines), "")
            if owner in ("", self._latest):
                left = self._groups_left
                self._groups_left = left - 1 if left else 0
                return left > 0
            self._groups_left = OTHERS_GROUPS if self._latest else 0
            self._latest = owner
        elif self._groups_left < OTHERS_GROUPS and len({*self._owners, *self._lines} - {""}) > 1:
            self._groups_left = OTHERS_GROUPS
        return self._groups_left > 0

    def _sort(self) -> None:
        """Move arrivals into the lines of their owners."""
        if not self._arrived:
            return
        lines = self._lines
        arrived = zip(self._owners, self._arrived, self._counts, self._sizes, strict=True)
        for owner, item, events, size in arrived:
            line = lines.get(owner)
            if line is None:
                line = lines[owner] = _Line()
                heappush(self._first, (self._due + cost_of(events, size), self._sorted + 1, owner))
            self._sorted += 1
            line.entries.append((self._sorted, item, events, size))
            line.bytes += size + ITEM_BYTES
        self._forget(len(self._arrived))

    def _forget(self, count: int) -> None:
        """The first arrivals have gone somewhere else."""
        for column in (self._arrived, self._owners, self._counts, self._sizes):
            del column[:count]
        if not self._arrived:
            self._mixed = False

    def _any_large(self) -> bool:
        """Whether an owner has more than `TURN_COST` among the arrivals."""
        costs: dict[str, int] = {}
        for owner, events, size in zip(self._owners, self._counts, self._sizes, strict=True):
            costs[owner] = cost = costs.get(owner, 0) + cost_of(events, size)
            if cost > TURN_COST:
                return True
        return False

    def _take_all(self) -> list[T]:
        items = self._arrived
        self._arrived, self._owners, self._counts, self._sizes = [], [], [], []
        self._mixed = False
        if self._lines:
            entries = chain.from_iterable(line.entries for line in self._lines.values())
            items[:0] = map(_item, sorted(entries, key=_number))
            self._lines.clear()
            self._first.clear()
        self._events = self._count = self.bytes = self._due = 0
        return items

    def _take_of_one(self, events_max: int, bytes_max: int) -> list[T]:
        """Take what fits, where all that waits is one owner's: nobody is owed a turn."""
        lines = tuple(self._lines.items())
        waiting = zip(self._counts, self._sizes, strict=True)
        in_line = (entry[2:] for entry in lines[0][1].entries) if lines else ()
        count = events = size = 0
        for more, larger in chain(in_line, waiting):
            if count and (events + more > events_max or size + larger > bytes_max):
                break
            events, size, count = events + more, size + larger, count + 1
        items = self._leave_line(*lines[0], count) if lines else []
        left = count - len(items)
        items += self._arrived[:left]
        self._forget(left)
        self.bytes -= size + count * ITEM_BYTES
        self._events -= events
        self._count -= count
        return items

    def _leave_line(self, owner: str, line: _Line[T], at_most: int) -> list[T]:
        """Take the first items of the only line. Nobody's place in the queue changes."""
        entries, items = line.entries, list[T]()
        while entries and len(items) < at_most:
            _, item, _, size = entries.popleft()
            line.bytes -= size + ITEM_BYTES
            items.append(item)
        self._first.clear()
        if entries:
            number, _, events, size = entries[0]
            self._first.append((self._due + cost_of(events, size), number, owner))
        else:
            del self._lines[owner]
        return items

    def _take_fairly(self, events_max: int, bytes_max: int) -> list[T]:
        """Take the earliest due, of each line while its next one fits. There are several lines."""
        few, little = events_max // SEVERAL, bytes_max // SEVERAL
        first, taken, too_large = self._first, list[T](), list[_First]()
        costs: dict[str, int] = {}
        all_events = all_bytes = 0
        while first and len(too_large) < _TOO_LARGE_MAX:
            owner = first[0][2]
            line = self._lines[owner]
            _, _, events, size = line.entries[0]
            cost = costs.get(owner, 0) + cost_of(events, size)
            all_events, all_bytes = all_events + events, all_bytes + size
            if taken and (all_events > few or all_bytes > little):
                if cost <= TURN_COST and (all_events > events_max or all_bytes > bytes_max):
                    break
                if cost > TURN_COST:
                    all_events, all_bytes = all_events - events, all_bytes - size
                    too_large.append(heappop(first))
                    continue
            costs[owner] = cost
            taken.append(self._leave(owner, line))
        for one in too_large:
            heappush(first, one)
        return taken

    def _leave(self, owner: str, line: _Line[T]) -> T:
        """Take the first item of the line that is first."""
        _, item, events, size = line.entries.popleft()
        due = self._first[0][0]
        self._due = max(self._due, due)
        self._events -= events
        self._count -= 1
        line.bytes -= size + ITEM_BYTES
        self.bytes -= size + ITEM_BYTES
        if line.entries:
            number, _, events, size = line.entries[0]
            heapreplace(self._first, (due + cost_of(events, size), number, owner))
        else:
            heappop(self._first)
            del self._lines[owner]
        return item


_OWN: Final = frozenset({"", "service"})
"""Principals of the service itself. Each of its writers waits for its answer before it goes on, so its
queue is bounded without us, and a refusal would only lose work.
"""


def has_room(queue: FairQueue[Any], owner: str, size: int, *, bytes_per_user: int, bytes_max: int) -> bool:
    """Whether a user may have `size` bytes more waiting.

    An empty line accepts one append of any size. If the bound of the process is reached, each user still
    has an even share of it, so that a few users who fill it do not lock out the others.
    """
    if owner in _OWN:
        return True
    waiting = queue.bytes_of(owner)
    if waiting and waiting + size > bytes_per_user:
        return False
    users = queue.owners + (waiting == 0)
    return queue.bytes + size <= bytes_max or waiting + size <= bytes_max // users
