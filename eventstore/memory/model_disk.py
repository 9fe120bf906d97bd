"""A model of a disk under one append-only file: what is written is safe only once it is synced.

For tests and simulated worlds. Writes wait in a queue until `sync`. A crash keeps a random prefix of the
queue and tears the write after it. A failed sync is as bad as on real systems: the waiting writes can still
be read, but no later sync makes them safe.
"""

import errno
import os
from typing import Protocol


class Chance(Protocol):
    """A source of random numbers, such as an `Ambient`."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class ModelDisk:
    """One file. `fail_writes` and `fail_syncs` are queues of errno values for the next calls.

    With `cut_in_sync` the power fails in the middle of the next sync: that sync and every later call fail,
    and only `crash` decides which of the waiting writes survive.
    """

    def __init__(self) -> None:
        self.fail_writes: list[int] = []
        self.fail_syncs: list[int] = []
        self.cut_in_sync = False
        self.syncs = 0
        self._safe = bytearray()
        self._waiting: list[bytes] = []
        self._doomed = False
        self._holder = 0
        self._held = False
        self._fenced = False

    def hold(self) -> int:
        """Become the writer; returns the ticket that writes need.

        Raises:
            BlockingIOError: another writer holds the disk and has neither released it nor crashed.
        """
        if self._held:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        self._held = True
        self._holder += 1
        return self._holder

    def release(self, ticket: int) -> None:
        """Stop being the writer."""
        if ticket == self._holder:
            self._held = False

    def fence_off(self) -> None:
        """From now on, what the writer asks for fails."""
        self._fenced = True

    def let_in(self) -> None:
        """The end of `fence_off`."""
        self._fenced = False

    def read(self) -> bytes:
        """All bytes as a process sees them, synced or not."""
        return bytes(self._safe) + b"".join(self._waiting)

    def read_safe(self) -> bytes:
        """The bytes that survive any crash."""
        return bytes(self._safe)

    def write(self, ticket: int, data: bytes) -> None:
        """Put `data` at the end. A write that fails has written half of it.

        Raises:
            OSError: as planned by `fail_writes`, or the ticket is not the holder's.
        """
        self._check(ticket)
        if self.fail_writes:
            self._waiting.append(data[: len(data) // 2])
            code = self.fail_writes.pop(0)
            raise OSError(code, os.strerror(code))
        self._waiting.append(data)

    def sync(self, ticket: int) -> None:
        """Make the waiting writes safe.

        Raises:
            OSError: as planned by `fail_syncs`, or the ticket is not the holder's.
        """
        self._check(ticket)
        self.syncs += 1
        if self.cut_in_sync:
            self.cut_in_sync = self._held = False
            self._check(ticket)
        if self.fail_syncs:
            self._doomed = True
            code = self.fail_syncs.pop(0)
            raise OSError(code, os.strerror(code))
        if not self._doomed:
            self._safe += b"".join(self._waiting)
            self._waiting.clear()

    def truncate(self, ticket: int, size: int) -> None:
        """Cut the file to `size` bytes, which must be safe already, and drop the waiting writes."""
        self._check(ticket)
        assert size <= len(self._safe), "only a tail that was never safe is cut"
        del self._safe[size:]
        self._waiting.clear()
        self._doomed = False

    @property
    def safe_bytes(self) -> int:
        """How many bytes survive any crash."""
        return len(self._safe)

    def crash(self, chance: Chance) -> None:
        """Lose power: a prefix of the waiting writes survives, the next is torn, and the writer is gone."""
        if not self._doomed and self._waiting:
            kept = int(chance.random() * (len(self._waiting) + 1))
            self._safe += b"".join(self._waiting[:kept])
            if kept < len(self._waiting):
                torn = self._waiting[kept]
                self._safe += torn[: int(chance.random() * len(torn))]
        self._waiting.clear()
        self._doomed = False
        self._held = False

    def _check(self, ticket: int) -> None:
        if self._fenced or not self._held or ticket != self._holder:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
