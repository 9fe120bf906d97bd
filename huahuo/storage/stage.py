"""Whether the disk is nearly full. Pure.

The stage begins below `low_bytes` of free space. It ends only when a quarter more than that is free, so that
a disk at the threshold does not enter and leave it at every look.
"""

from typing import Final

_ENOUGH: Final = 1.25


class Stage:
    """The stage of one disk. `low_bytes` 0: there is no such stage."""

    def __init__(self, low_bytes: int) -> None:
        self.low_bytes = low_bytes
        self.is_low = False
        self.free_bytes: int | None = None
        """At the last look; None: there was none."""

    @property
    def enough_bytes(self) -> int:
        """The free space at which the stage ends."""
        return round(self.low_bytes * _ENOUGH)

    def look(self, free_bytes: int) -> bool:
        """Note how much is free. Returns whether the stage began or ended with it."""
        self.free_bytes = free_bytes
        was = self.is_low
        self.is_low = free_bytes < (self.enough_bytes if was else self.low_bytes)
        return self.is_low != was
