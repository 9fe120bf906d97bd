"""A queue with a line for each owner: first come first served within a line, turns between lines. Pure.

`take` is bounded in bytes and in events. While everything fits, all items leave in the order in which they
came. Otherwise the owners take turns (deficit round-robin: each turn is worth `TURN_COST`, and an unused
part counts towards the next). So an owner waits for one turn of each other owner, however long the other
owners' backlogs are.

Usually everything fits, or all is one owner's, and no turns are needed. So arrivals are sorted into lines
only when turns begin or when the state of a line is asked for.
"""

from collections import deque
from itertools import chain
from operator import itemgetter

TURN_COST = 16 << 10
"""Bytes that an owner may take in its turn; each event counts as at least `EVENT_COST`."""
EVENT_COST = 512
ITEM_BYTES = 512
"""Memory of an item besides its content. It is counted, so that a bound in bytes also bounds the count."""

type _Arrival[T] = tuple[str, T, int, int]
"""(owner, item, events, bytes)"""
type _Entry[T] = tuple[int, T, int, int]
"""(number in the order of arrival, item, events, bytes)"""
_number = itemgetter(0)
_item = itemgetter(1)
"""The item of an arrival and of an entry: both have it second."""


class _Line[T]:
    """The waiting items of one owner; `bytes` includes `ITEM_BYTES` for each item."""

    __slots__ = ("bytes", "deficit", "entries")

    def __init__(self) -> None:
        self.entries: deque[_Entry[T]] = deque()
        self.bytes = 0
        self.deficit = 0


class FairQueue[T]:
    """See the module.

    Invariants: `len` is the number of items; items of one owner leave in the order in which they came;
    an owner has a line only while it has an item.
    """

    def __init__(self) -> None:
        self.bytes = 0
        """Of all waiting content, including `ITEM_BYTES` for each item."""
        self._arrived: list[_Arrival[T]] = []
        """Items that are in no line yet. Each came after every item that is in a line."""
        self._owner = ""
        """Of all arrivals, unless `_mixed`."""
        self._mixed = False
        self._lines: dict[str, _Line[T]] = {}
        self._turns: deque[str] = deque()
        self._sorted = 0
        self._count = 0
        self._events = 0

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
        self._arrived.append((owner, item, events, size))
        self.bytes += size + ITEM_BYTES
        self._events += events
        self._count += 1

    def take(self, events_max: int, bytes_max: int) -> list[T]:
        """The next items, at least one if there is one, then as many as fit within both bounds."""
        if self._events <= events_max and self.bytes - self._count * ITEM_BYTES <= bytes_max:
            return self._take_all()
        if not (self._lines or self._mixed):
            return self._take_arrived(events_max, bytes_max)
        self._sort()
        if len(self._lines) == 1:
            return self._take_of_one(events_max, bytes_max)
        return self._take_in_turns(events_max, bytes_max)

    def _sort(self) -> None:
        """Move arrivals into the lines of their owners."""
        if not self._arrived:
            return
        lines = self._lines
        for owner, item, events, size in self._arrived:
            line = lines.get(owner)
            if line is None:
                line = lines[owner] = _Line()
                self._turns.append(owner)
            self._sorted += 1
            line.entries.append((self._sorted, item, events, size))
            line.bytes += size + ITEM_BYTES
        self._arrived.clear()
        self._mixed = False

    def _take_all(self) -> list[T]:
        items = list(map(_item, self._arrived))
        self._arrived.clear()
        self._mixed = False
        if self._lines:
            entries = chain.from_iterable(line.entries for line in self._lines.values())
            items[:0] = map(_item, sorted(entries, key=_number))
            self._lines.clear()
            self._turns.clear()
        self._events = self._count = self.bytes = 0
        return items

    def _take_arrived(self, events_max: int, bytes_max: int) -> list[T]:
        """Take what fits of arrivals that are all of one owner, and all that waits."""
        count = events = size = 0
        for _, _, more, larger in self._arrived:
            if count and (events + more > events_max or size + larger > bytes_max):
                break
            events, size, count = events + more, size + larger, count + 1
        items = list(map(_item, self._arrived[:count]))
        del self._arrived[:count]
        self.bytes -= size + count * ITEM_BYTES
        self._events -= events
        self._count -= count
        return items

    def _take_of_one(self, events_max: int, bytes_max: int) -> list[T]:
        [(owner, line)] = self._lines.items()
        entries, taken = line.entries, list[T]()
        events = size = 0
        while entries:
            _, item, more, larger = entries[0]
            if taken and (events + more > events_max or size + larger > bytes_max):
                break
            events, size = events + more, size + larger
            entries.popleft()
            taken.append(item)
        self._left(line, len(taken), events, size)
        self._end_turn(owner, line)
        return taken

    def _take_in_turns(self, events_max: int, bytes_max: int) -> list[T]:
        taken: list[T] = []
        all_events = all_bytes = 0
        full = False
        while self._lines and not full:
            owner = self._turns[0]
            line = self._lines[owner]
            entries, deficit, before = line.entries, line.deficit + TURN_COST, len(taken)
            events = size = 0
            while entries:
                _, item, more, larger = entries[0]
                cost = max(larger, more * EVENT_COST)
                if cost > deficit:
                    break
                if taken and (
                    all_events + events + more > events_max or all_bytes + size + larger > bytes_max
                ):
                    deficit -= TURN_COST  # its turn goes on with the next group
                    full = True
                    break
                deficit -= cost
                events, size = events + more, size + larger
                entries.popleft()
                taken.append(item)
            line.deficit = deficit
            all_events, all_bytes = all_events + events, all_bytes + size
            self._left(line, len(taken) - before, events, size)
            if not full:
                self._end_turn(owner, line)
        return taken

    def _left(self, line: _Line[T], count: int, events: int, size: int) -> None:
        size += count * ITEM_BYTES
        line.bytes -= size
        self.bytes -= size
        self._events -= events
        self._count -= count

    def _end_turn(self, owner: str, line: _Line[T]) -> None:
        self._turns.popleft()
        if line.entries:
            self._turns.append(owner)
        else:
            del self._lines[owner]
