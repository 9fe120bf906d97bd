"""What waits at the writer for its group: owners take turns by the bytes that they write. Pure.

`take` is bounded in bytes and in events. All wait for the group under way. So while several owners wait, one
has more than `TURN_COST` in a group only within bounds of a `SEVERAL`th. So it is for a while after another
wrote, since the next of its items may come just behind a large group.

Usually everything fits, or all is one owner's, and all leave in the order in which they came. So arrivals
are sorted into lines only when that is not so, or when the state of a line is asked for.
"""

from typing import Final

from huahuo.eventstore.fair_queue import FairQueue, Turn, has_share

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
_OWN: Final = frozenset({"", "service"})
"""Principals of the service itself. Each of its writers waits for its answer before it goes on, so its
queue is bounded without us, and a refusal would only lose work.
"""

type _Entry[T] = tuple[T, int, int]
"""(item, events, bytes)"""


def cost_of(events: int, size: int) -> int:
    """What an item costs its owner."""
    return ITEM_BYTES + max(size, EVENT_COST * events)


class GroupQueue[T]:
    """See the module.

    Invariants: `len` is the number of items; items of one owner leave in the order in which they came.
    """

    def __init__(self) -> None:
        self.bytes = 0
        """Of all waiting content, including `ITEM_BYTES` for each item."""
        self._arrived: list[tuple[str, _Entry[T]]] = []
        """Items that are in no line yet, with their owners. Each came after every item that is in a line."""
        self._owner = ""
        """Of all arrivals, unless `_mixed`."""
        self._mixed = False
        self._queue: FairQueue[_Entry[T]] = FairQueue()
        self._bytes: dict[str, int] = {}
        """Of each owner with a line."""
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
        return len(self._queue.lines)

    def bytes_of(self, owner: str) -> int:
        """The size of the items of `owner`, counted as `bytes` counts."""
        self._sort()
        return self._bytes.get(owner, 0)

    def has_room(self, owner: str, size: int, *, per_owner: int, most: int) -> bool:
        """Whether a principal may have `size` bytes more waiting."""
        return owner in _OWN or has_share(
            self.bytes_of(owner), size, self.bytes, self.owners, per_owner=per_owner, most=most
        )

    def put(self, owner: str, item: T, events: int, size: int) -> None:
        """Queue `item`, of `events` events and `size` bytes, behind its owner's other items."""
        if owner != self._owner:
            self._mixed = bool(self._arrived)
            self._owner = owner
        self._arrived.append((owner, (item, events, size)))
        self.bytes += size + ITEM_BYTES
        self._events += events
        self._count += 1

    def take(self, events_max: int, bytes_max: int) -> list[T]:
        """The next items, at least one if there is one, then as many as fit within both bounds."""
        events, size, lines = self._events, self.bytes - self._count * ITEM_BYTES, self._queue.lines
        is_of_one = not self._mixed and (
            not lines or (len(lines) == 1 and (not self._arrived or self._owner in lines))
        )
        others_write = self._note_owners(is_of_one)
        if SEVERAL * events <= events_max and SEVERAL * size <= bytes_max:
            return self._take_all()
        few, little = events_max // SEVERAL, bytes_max // SEVERAL
        if is_of_one:
            if others_write:
                events_max, bytes_max = few, little
            few, little = events_max, bytes_max
        if events <= events_max and size <= bytes_max and (is_of_one or not (lines or self._any_large())):
            return self._take_all()
        self._sort()
        return self._take_fairly(events_max, bytes_max, few, little)

    def _note_owners(self, is_of_one: bool) -> bool:
        """Whether several owners wrote not long ago, so that one of them may come behind the next group.

        What has no owner is the service's own, which nobody waits for.
        """
        if is_of_one:
            owner = self._owner if self._arrived else next(iter(self._queue.lines), "")
            if owner in ("", self._latest):
                left = self._groups_left
                self._groups_left = left - 1 if left else 0
                return left > 0
            self._groups_left = OTHERS_GROUPS if self._latest else 0
            self._latest = owner
        elif self._groups_left < OTHERS_GROUPS:
            owners = {owner for owner, _ in self._arrived}
            if len({*owners, *self._queue.lines} - {""}) > 1:
                self._groups_left = OTHERS_GROUPS
        return self._groups_left > 0

    def _sort(self) -> None:
        """Move arrivals into the lines of their owners."""
        queue, sizes = self._queue, self._bytes
        for owner, entry in self._arrived:
            line = queue.lines.get(owner)
            if line is None:
                line = queue.begin(owner, cost_of(*entry[1:]))
                sizes[owner] = 0
            line.append(entry)
            sizes[owner] += entry[2] + ITEM_BYTES
        self._arrived.clear()
        self._mixed = False

    def _any_large(self) -> bool:
        """Whether an owner has more than `TURN_COST` among the arrivals."""
        costs: dict[str, int] = {}
        for owner, (_, events, size) in self._arrived:
            costs[owner] = cost = costs.get(owner, 0) + cost_of(events, size)
            if cost > TURN_COST:
                return True
        return False

    def _take_all(self) -> list[T]:
        items = [entry[0] for line in self._queue.lines.values() for entry in line]
        items += [entry[0] for _, entry in self._arrived]
        self._arrived.clear()
        self._mixed = False
        self._queue.clear()
        self._bytes.clear()
        self._events = self._count = self.bytes = 0
        return items

    def _take_fairly(self, events_max: int, bytes_max: int, few: int, little: int) -> list[T]:
        """Take the earliest due, of each line while its next one fits. `few`, `little`: see `SEVERAL`."""
        queue, taken, aside = self._queue, list[T](), list[Turn]()
        costs: dict[str, int] = {}
        alone = len(queue.lines) == 1  # then nobody is owed a turn, and no cost is counted
        all_events = all_bytes = 0
        ends = False
        while not ends and len(aside) < _TOO_LARGE_MAX and (turn := queue.next()) is not None:
            owner = turn[2]
            line, count, cost, size_before = queue.lines[owner], len(taken), costs.get(owner, 0), all_bytes
            while line:
                item, events, size = line[0]
                if taken and (all_events + events > few or all_bytes + size > little):
                    is_over = all_events + events > events_max or all_bytes + size > bytes_max
                    is_large = cost + cost_of(events, size) > TURN_COST and not alone
                    if is_over or is_large:
                        ends = not is_large
                        break
                line.popleft()
                taken.append(item)
                all_events, all_bytes = all_events + events, all_bytes + size
                if not alone:
                    costs[owner] = cost + cost_of(events, size)
                    break
            count = len(taken) - count
            if not count:
                aside.append(turn)
                continue
            self._bytes[owner] -= all_bytes - size_before + count * ITEM_BYTES
            if not line:
                del self._bytes[owner]
            queue.reached(turn)
            queue.back(turn, cost_of(*line[0][1:]) if line else 0)
        queue.leave_out(aside)
        self._count -= len(taken)
        self._events -= all_events
        self.bytes -= all_bytes + len(taken) * ITEM_BYTES
        return taken
