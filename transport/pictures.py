"""Snapshots as finished frames: one under way per stream, however many connections want it.

A frame is kept by (stream, seq, kind of frame) for a moment, as long as the process's budget has room:
after a restart, or when a window was too small, many connections of one user want the same. Large ones are
compressed on another thread.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from eventstore.executor import Executor
from replay.sharing import SharedReads
from transport import outgoing
from transport.api import SnapshotOf
from transport.budget import Budget
from transport.compression import Compression
from transport.delivery import LogView
from transport.frames import text_frame
from transport.session import LONG_BYTES

KEPT_BYTES_MAX: Final = 32 << 20
KEPT_S: Final = 5.0
_AT_ONCE: Final = 4

type _Key = tuple[str, bool]
"""A stream, and whether the frame may be compressed."""


class Picture(msgspec.Struct, frozen=True):
    """A snapshot after event `seq`: the frame to write, and how large its JSON is."""

    seq: int
    frame: bytes
    message_bytes: int


class Pictures:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self,
        snapshots: Mapping[str, SnapshotOf],
        log: LogView,
        *,
        budget: Budget,
        compression: Compression | None,
        executor: Executor,
        now_s: Callable[[], float],
    ) -> None:
        self._snapshots = snapshots
        self._log = log
        self._budget = budget
        self._compression = compression
        self._executor = executor
        self._now_s = now_s
        self._states: SharedReads[str, tuple[int, bytes]] = SharedReads(self._take, _AT_ONCE)
        self._frames: SharedReads[_Key, Picture] = SharedReads(self._draw, _AT_ONCE)
        self._compressing = asyncio.Lock()
        self._kept: OrderedDict[_Key, tuple[Picture, float]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self.kept_bytes = 0
        self.drawn = 0
        """Frames made so far; what was asked for beyond that was shared."""
        budget.make_room = self._make_room

    async def get(self, stream: str, *, compressed: bool) -> Picture:
        """The state of `stream` as it is now, or was a moment ago: newer events follow it.

        Raises as the domain's `SnapshotOf`.
        """
        key = stream, compressed and self._compression is not None
        kept = self._kept.get(key)
        if kept is not None:
            if kept[0].seq == self._log.head(stream).seq:
                return kept[0]
            self._forget(key)
        return await self._frames.get(key)

    async def framed(self, message: bytes) -> bytes:
        """A compressed frame of a message, made elsewhere if it is long."""
        compression = self._compression
        if compression is None:
            return text_frame(message)
        if len(message) <= LONG_BYTES:
            return compression.frame(message)
        async with self._compressing:
            return await self._executor.run(lambda: compression.frame_apart(message))

    async def _take(self, streams: Sequence[str]) -> list[tuple[int, bytes]]:
        (stream,) = streams
        of = self._snapshots.get(stream.partition("/")[0])
        return [(self._log.head(stream).seq, b"{}") if of is None else await of(stream)]

    async def _draw(self, keys: Sequence[_Key]) -> list[Picture]:
        (key,) = keys
        stream, compressed = key
        seq, state = await self._states.get(stream)
        message = outgoing.snapshot(stream, seq, state)
        del state
        frame = await self.framed(message) if compressed else text_frame(message)
        picture = Picture(seq, frame, len(message))
        self.drawn += 1
        self._keep(key, picture)
        return [picture]

    def _keep(self, key: _Key, picture: Picture) -> None:
        self._forget(key)
        size = len(picture.frame)
        if size > KEPT_BYTES_MAX or not self._budget.keep(size):
            return
        self._kept[key] = picture, self._now_s()
        self.kept_bytes += size
        while self.kept_bytes > KEPT_BYTES_MAX:
            self._forget(next(iter(self._kept)))
        self._wait()

    def _forget(self, key: _Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            size = len(kept[0].frame)
            self.kept_bytes -= size
            self._budget.drop(size)

    def _make_room(self, size: int) -> None:
        until = self.kept_bytes - size
        while self._kept and self.kept_bytes > until:
            self._forget(next(iter(self._kept)))

    def _wait(self) -> None:
        if self._timer is None and self._kept:
            self._timer = asyncio.get_running_loop().call_later(KEPT_S, self._expire)

    def _expire(self) -> None:
        self._timer = None
        before_s = self._now_s() - KEPT_S
        for key in [key for key, (_, at_s) in self._kept.items() if at_s <= before_s]:
            self._forget(key)
        self._wait()
