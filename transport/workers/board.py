"""Memory that the owner shares with its workers, for large messages to all of them. Each is written once.

Through its socket a message is copied four times for each worker. One that lies on the board is read where
it is; the socket only says where (`Lies`), in its place among all other messages. A place is used again once
every worker that was told of it has read it. While there is no room, messages go through the sockets.
"""

import mmap
import os
from collections import deque
from collections.abc import Collection, Hashable
from typing import Final, Protocol

from huahuo.transport.workers.messages import Lies

BOARD_BYTES: Final = 8 << 20
"""Some commits of the largest size. Usually each is read before the next, and the first pages are enough."""
FROM_BYTES: Final = 16 << 10
"""A shorter message costs less through the sockets than to say where it is, and that it was read."""


class Reader(Hashable, Protocol):
    """Who is told of what lies on the board."""


class Room[R: Reader]:
    """Which bytes of the board are in use: a ring. Pure.

    Invariant: the places in use do not overlap, and each has a reader that has not read it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._made = 0
        self._used: deque[tuple[int, int, int, set[R]]] = deque()
        """(number, first byte, the byte behind the last, who has not read it), from the oldest on."""

    def place(self, length: int, readers: Collection[R]) -> Lies | None:
        """A place for a message to `readers`, at least one; None if there is none now."""
        start = self._start(length)
        if start is None:
            return None
        self._made += 1
        self._used.append((self._made, start, start + length, set(readers)))
        return Lies(self._made, start, length)

    def read(self, reader: R, number: int) -> None:
        """`reader` has read message `number`."""
        for made, _, _, readers in self._used:
            if made == number:
                readers.discard(reader)
        self._free()

    def gone(self, reader: R) -> None:
        """`reader` reads nothing more."""
        for _, _, _, readers in self._used:
            readers.discard(reader)
        self._free()

    def _start(self, length: int) -> int | None:
        if not self._used:
            return 0 if length <= self._size else None
        first, end = self._used[0][1], self._used[-1][2]
        if end <= first:  # the ring has begun anew: room is between the newest and the oldest
            return end if end + length < first else None
        if end + length <= self._size:
            return end
        return 0 if length < first else None

    def _free(self) -> None:
        while self._used and not self._used[0][3]:
            self._used.popleft()


class Board:
    """The owner's side. See the module."""

    def __init__(self, size: int = BOARD_BYTES, from_bytes: int = FROM_BYTES) -> None:
        """Raises OSError: the system gives no such memory."""
        if not hasattr(os, "memfd_create"):
            raise OSError("this system has no memory without a file")
        self.descriptor = os.memfd_create("huahuo")
        """For the workers, which inherit it."""
        try:
            os.ftruncate(self.descriptor, size)
            self._memory = mmap.mmap(self.descriptor, size)
        except OSError:
            os.close(self.descriptor)
            raise
        self.room: Room[Reader] = Room(size)
        self._from_bytes = from_bytes

    def put(self, message: bytes, readers: Collection[Reader]) -> Lies | None:
        """Write an encoded message for `readers`. None: it must go through their sockets."""
        if len(message) < self._from_bytes or not readers:
            return None
        lies = self.room.place(len(message), readers)
        if lies is not None:
            self._memory[lies.start : lies.start + lies.length] = message
        return lies

    def close(self) -> None:
        """Nobody is told of anything any more. Idempotent."""
        if not self._memory.closed:
            self._memory.close()
            os.close(self.descriptor)


class BoardRead:
    """A worker's side: `descriptor` is the owner's."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size, prot=mmap.PROT_READ)

    def at(self, lies: Lies) -> memoryview:
        """The message that lies there, until it is said to be read."""
        return memoryview(self._memory)[lies.start : lies.start + lies.length]
