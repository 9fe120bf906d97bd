"""Bounds on the bytes of messages that wait for entities: per entity and for all of them. Pure."""

from collections.abc import Iterator
from contextlib import contextmanager

from huahuo.actors.entities.errors import Busy


class InboxBytes:
    """Counts what waits, by the entity's address.

    One message that waits for an entity alone may be larger than `each_max`. Beyond `all_max` each entity has
    an even share of it, so that a few users who fill it do not keep others out. What is held never exceeds
    twice `all_max`.
    """

    def __init__(self, each_max: int, all_max: int) -> None:
        self._each_max = each_max
        self._all_max = all_max
        self._waiting: dict[str, int] = {}
        self.total = 0

    @contextmanager
    def hold(self, address: str, size: int) -> Iterator[None]:
        """Count `size` bytes for this entity until the block ends.

        Raises:
            Busy: they find no room.
        """
        waiting = self._waiting.get(address, 0)
        self._admit(address, waiting, size)
        self._waiting[address] = waiting + size
        self.total += size
        try:
            yield
        finally:
            self.total -= size
            self._waiting[address] -= size
            if not self._waiting[address]:
                del self._waiting[address]

    def _admit(self, address: str, waiting: int, size: int) -> None:
        if waiting and waiting + size > self._each_max:
            raise Busy(f"{address} has too much to do")
        if self.total + size <= self._all_max:
            return
        share = self._all_max // (len(self._waiting) + (not waiting))
        if waiting + size > share or self.total + size > 2 * self._all_max:
            raise Busy("the entities have too much to do")
