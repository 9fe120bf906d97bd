"""Numbers of counters that a node has reserved: blocks that no other node hands out from. Pure.

Numbers rise within a node, not over all nodes. What is left of a block when the node stops is never used.
"""

import msgspec

BLOCK = 1024
"""Numbers reserved at a time: a node hands out about half of them while the next block is under way."""


class _Counter(msgspec.Struct):
    ranges: list[tuple[int, int]]
    """(first, end) of what is left, ascending; one ends where the next begins in another block."""

    @property
    def left(self) -> int:
        return sum(end - first for first, end in self.ranges)


class Blocks:
    """See the module."""

    def __init__(self) -> None:
        self._counters: dict[str, _Counter] = {}

    def add(self, counter: str, first: int, count: int) -> None:
        """A block was reserved."""
        held = self._counters.setdefault(counter, _Counter([]))
        if held.ranges and held.ranges[-1][1] == first:
            held.ranges[-1] = (held.ranges[-1][0], first + count)
        else:
            held.ranges.append((first, first + count))

    def take(self, counter: str, count: int) -> int | None:
        """The first of `count` consecutive numbers, None if no block has that many left.

        What is left of a block that is too short is given up, so that numbers rise.
        """
        held = self._counters.get(counter)
        while held is not None and held.ranges:
            first, end = held.ranges[0]
            if end - first >= count:
                held.ranges[0] = (first + count, end)
                return first
            if len(held.ranges) == 1:
                break
            held.ranges.pop(0)
        return None

    def has(self, counter: str, count: int) -> bool:
        """Whether `take` would find a block."""
        held = self._counters.get(counter)
        return held is not None and any(end - first >= count for first, end in held.ranges)

    def is_low(self, counter: str) -> bool:
        """Whether fewer than half a block is left."""
        held = self._counters.get(counter)
        return held is None or held.left < BLOCK // 2
