"""A deque that takes no memory while it is empty. Pure.

An empty `deque` has 760 bytes. The library keeps one for the frames that wait on each connection, and on an
idle connection none waits.
"""

from collections import deque
from collections.abc import Iterable


class LazyDeque[T]:
    """What the library uses of a deque: both ends, the length, and whether it is empty."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: deque[T] | None = None

    def __len__(self) -> int:
        return 0 if self._items is None else len(self._items)

    def append(self, item: T) -> None:
        """Add at the end."""
        if self._items is None:
            self._items = deque()
        self._items.append(item)

    def extendleft(self, items: Iterable[T]) -> None:
        """Add at the front, one by one."""
        if self._items is None:
            self._items = deque()
        self._items.extendleft(items)

    def popleft(self) -> T:
        """Take the first. Raises IndexError: there is none."""
        if self._items is None:
            raise IndexError("pop from an empty deque")
        item = self._items.popleft()
        if not self._items:
            self._items = None
        return item
