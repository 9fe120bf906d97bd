"""One budget of bytes for all that is on its way in, from its first bytes to its commit.

A body is counted by its head, before it is read, with all that will be made of it: parsed values, events,
and what waits at the writer. What finds no room is not read. A user may have as much as all together leave
free: one alone has half, each of two a third. So there is always room for a newcomer, and the sum never
grows beyond the bound.
"""

import asyncio
import contextlib
from collections.abc import Callable
from itertools import islice
from typing import Final

from huahuo.transport.load.metrics import Metrics
from huahuo.transport.load.shares import BytesOfUsers

SMALL_BYTES: Final = 16 << 10
"""A message up to this size is counted, and does not wait: it is in memory already, and one of few."""
ROOM_S: Final = 10.0
"""A body waits for room at most this long, unread."""
_RAW: Final = 2
"""A body as it came, and as it is written."""
_TEXT: Final = 6
_DENSE: Final = 32
_VALUES_BYTES: Final = 8 << 20
"""Of each byte: long texts (5 with a character beyond 16 bits), short values; and all values of a message."""
_WAITING: Final = 8
"""One part in this many of the bound is for what was read of bodies that wait."""
_LOOKS: Final = 64


def weight(size: int) -> int:
    """What a body of `size` bytes takes at most until its commit."""
    return _RAW * size + max(_TEXT * size, min(_DENSE * size, _VALUES_BYTES))


class Intake(BytesOfUsers):
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__()
        self.bytes_max = bytes_max
        self._most = bytes_max - bytes_max // _WAITING
        self._held = 0
        self._waiting: dict[Load, None] = {}

    def measured(self, metrics: Metrics) -> None:
        """Let metrics show it."""
        metrics.gauge("intake_bytes", "Bodies and messages on their way in.", lambda: self.used)
        metrics.gauge("intake_waiting", "Those that are not read yet for want of room.", lambda: self.waiting)
        metrics.total("intake_refused", "Bodies that found no room in time.", lambda: self.refused)

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return len(self._waiting)

    def fits(self, user: str, size: int) -> bool:
        """Whether this user may have that much more. One body that is larger goes alone."""
        size = min(size, self._most)
        free, mine = self.bytes_max - self.used - size, self.of(user)
        return free >= 0 and (not mine or mine + size <= free)

    def add(self, user: str, size: int) -> None:
        """Count `size` bytes more for `user`; fewer, if negative: then those that wait are looked at."""
        super().add(user, size)
        if size < 0 and self._waiting:
            self._look()

    def take(self, load: "Load") -> bool:
        """Count a load, if there is room."""
        load.size = min(load.size, self._most)
        if fits := self.fits(load.user, load.size):
            self.add(load.user, load.size)
        return fits

    def wait(self, load: "Load") -> bool:
        """Let a load wait. False: what was read of it has no room either."""
        if self._held + load.held > self.bytes_max // _WAITING:
            return False
        self._hold(load.held)
        self._waiting[load] = None
        return True

    def leave(self, load: "Load") -> None:
        """It waits no more."""
        del self._waiting[load]
        self._hold(-load.held)
        self._look()

    def _hold(self, size: int) -> None:
        self._held += size
        self.used += size

    def _look(self) -> None:
        """Let in those who have room now. Those who have none are looked at again behind all others."""
        for load in tuple(islice(self._waiting, _LOOKS)):
            del self._waiting[load]
            self._hold(-load.held)
            if self.take(load):
                load.came_in()
            else:
                self._hold(load.held)
                self._waiting[load] = None


class Load:
    """The part of one body or message."""

    __slots__ = ("_holders", "_intake", "_state", "_then", "held", "size", "user")

    def __init__(self, intake: Intake, user: str) -> None:
        self.user = user
        self.size = 0
        self.held = 0
        """What was read before it had room."""
        self._intake = intake
        self._state = ""
        self._holders = 0
        self._then: Callable[[], object] | None = None

    @property
    def is_in(self) -> bool:
        """Whether it is counted."""
        return self._state == "in"

    @property
    def waits(self) -> bool:
        """Whether it waits."""
        return self._state == "waits"

    def take(self, size: int) -> bool:
        """Whether there is room for a body of `size` bytes, which is then counted."""
        self.size = weight(size)
        if self._intake.take(self):
            self._state, self._holders = "in", 1
        return self.is_in

    def wait(self, held: int, then: Callable[[], object]) -> bool:
        """Wait after `take`; `then` is called once it is counted. False: what was read has no room either."""
        self.held, self._then = held, then
        if self._intake.wait(self):
            self._state = "waits"
        return self.waits

    async def waited(self, held: int, within_s: float) -> bool:
        """As `wait`, for a task. False: there was no room in time."""
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def then() -> None:
            if not came.done():
                came.set_result(None)

        if self.wait(held, then):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await came
            if self.waits:
                self.close()
        self._intake.refused += not self.is_in
        return self.is_in

    def came_in(self) -> None:
        """There is room: it is counted from now on."""
        self._state, self._holders = "in", 1
        if self._then is not None:
            asyncio.get_running_loop().call_soon(self._then)

    def share(self) -> Callable[[object], None]:
        """Count it until the returned function is called, too: for work that outlives the client."""
        if not self.is_in:
            return _nothing
        self._holders += 1
        return self._drop

    def close(self) -> None:
        """The client has its answer, or has left. Idempotent where nobody shares it."""
        self._then = None
        if self.waits:
            self._state = ""
            self._intake.leave(self)
        elif self.is_in:
            self._drop(None)

    def _drop(self, _ended: object) -> None:
        self._holders -= 1
        if not self._holders:
            self._state = ""
            self._intake.add(self.user, -self.size)


def _nothing(_ended: object) -> None:
    """Nothing was counted."""
