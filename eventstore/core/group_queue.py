"""What waits at the writer for its group: owners take turns by the bytes that they write. Pure.

`take` is bounded in bytes and in events. All wait for the group under way. So while several owners wait, one
has more than `TURN_COST` in a group only within bounds of a `SEVERAL`th. So it is for a while after another
wrote, since the next of its items may come just behind a large group.

Usually everything fits, or all is one owner's, and all leave in the order in which they came.
"""

from itertools import chain
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

type _Entry[T] = tuple[int, T, int, int]
"""(number, item, events, bytes): numbers are in the order of arrival."""


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
        self._queue: FairQueue[_Entry[T]] = FairQueue()
        self._bytes: dict[str, int] = {}
        """Of each owner with a line."""
        self._count = 0
        self._events = 0
        self._number = 0
        self._latest = ""
        """The owner of the newest group that was one owner's."""
        self._groups_left = 0
        """How many groups stay small, even if only one owner waits."""

    def __len__(self) -> int:
        return self._count

    @property
    def owners(self) -> int:
        """How many owners have an item waiting."""
        return len(self._queue.lines)

    def bytes_of(self, owner: str) -> int:
        """The size of the items of `owner`, counted as `bytes` counts."""
        return self._bytes.get(owner, 0)

    def has_room(self, owner: str, size: int, *, per_owner: int, most: int) -> bool:
        """Whether a principal may have `size` bytes more waiting."""
        return owner in _OWN or has_share(
            self.bytes_of(owner), size, self.bytes, self.owners, per_owner=per_owner, most=most
        )

    def put(self, owner: str, item: T, events: int, size: int) -> None:
        """Queue `item`, of `events` events and `size` bytes, behind its owner's other items."""
        line = self._queue.lines.get(owner)
        if line is None:
            line = self._queue.begin(owner, cost_of(events, size))
            self._bytes[owner] = 0
        self._number += 1
        line.append((self._number, item, events, size))
        self._bytes[owner] += size + ITEM_BYTES
        self.bytes += size + ITEM_BYTES
        self._events += events
        self._count += 1

    def take(self, events_max: int, bytes_max: int) -> list[T]:
        """The next items, at least one if there is one, then as many as fit within both bounds."""
        events, size = self._events, self.bytes - self._count * ITEM_BYTES
        is_of_one = len(self._queue.lines) <= 1
        others_write = self._note_owners(is_of_one)
        if SEVERAL * events <= events_max and SEVERAL * size <= bytes_max:
            return self._take_all()
        few, little = events_max // SEVERAL, bytes_max // SEVERAL
        if is_of_one:
            if others_write:
                events_max, bytes_max = few, little
            few, little = events_max, bytes_max
        if events <= events_max and size <= bytes_max and (is_of_one or not self._any_large()):
            return self._take_all()
        return self._take_fairly(events_max, bytes_max, few, little)

    def _note_owners(self, is_of_one: bool) -> bool:
        """Whether several owners wrote not long ago, so that one of them may come behind the next group.

        What has no owner is the service's own, which nobody waits for.
        """
        if is_of_one:
            owner = next(iter(self._queue.lines), "")
            if owner in ("", self._latest):
                left = self._groups_left
                self._groups_left = left - 1 if left else 0
                return left > 0
            self._groups_left = OTHERS_GROUPS if self._latest else 0
            self._latest = owner
        elif self._groups_left < OTHERS_GROUPS and len(self._queue.lines.keys() - {""}) > 1:
            self._groups_left = OTHERS_GROUPS
        return self._groups_left > 0

    def _any_large(self) -> bool:
        """Whether an owner has more than `TURN_COST` waiting."""
        lines = self._queue.lines.values()
        return any(sum(cost_of(*entry[2:]) for entry in line) > TURN_COST for line in lines)

    def _take_all(self) -> list[T]:
        items = [entry[1] for entry in sorted(chain.from_iterable(self._queue.lines.values()))]
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
                _, item, events, size = line[0]
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
            queue.back(turn, cost_of(*line[0][2:]) if line else 0)
        queue.leave_out(aside)
        self._count -= len(taken)
        self._events -= all_events
        self.bytes -= all_bytes + len(taken) * ITEM_BYTES
        return taken
