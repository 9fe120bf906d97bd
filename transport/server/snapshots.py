"""Snapshots of streams, made as frames once for all connections that want one.

`Pictures`: a state is taken once for all connections that ask while it is being taken. A connection that
takes parts gets them one at a time; each part is made when the connection asks for it. Frames are kept for
5 s while the process's budget has room: after a restart, or when a window was too small, many connections
of one user want the same frame. Text is made in slices, by turns. Large frames are compressed on another
thread.

`Supply` says where all connections of a server have snapshots, and room to read and to write, from.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec

from huahuo.actors.plugins.actions import SnapshotOf
from huahuo.actors.plugins.calls import Parted
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.executor import Executor
from huahuo.replay.feed import Feed, SharedReads
from huahuo.transport.load.fair_queueing import Turns
from huahuo.transport.load.intake import Intake
from huahuo.transport.load.shares import Budget, Estimates
from huahuo.transport.protocol.dialects import Compression
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.frames import text_frame
from huahuo.transport.protocol.kinds import Part
from huahuo.transport.session import outgoing
from huahuo.transport.session.calls import LONG_BYTES
from huahuo.transport.session.session import FrameKind

KEPT_BYTES_MAX: Final = 32 << 20
KEPT_S: Final = 5.0
_AT_ONCE: Final = 4
_NEWEST: Final = -1


class Picture(msgspec.Struct, frozen=True):
    """The frame of a snapshot after event `seq`, or of its part `number`.

    `frame` None: the state is too long for one message. `following`: where the next part begins; None:
    this is the last one.
    """

    seq: int
    frame: bytes | None
    state: bytes | Parted = b""
    link: bytes = b""
    number: int = 1
    following: int | None = None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The key of a frame: of the newest state, or of the part that follows `after`."""

    stream: str
    kind: FrameKind
    seq: int = _NEWEST
    number: int = 1
    after: Picture | None = field(default=None, compare=False)


class Pictures:
    """Snapshots as finished frames: each is made once, however many connections want it.

    All methods belong to the loop's thread.
    """

    def __init__(
        self,
        snapshots: Mapping[str, SnapshotOf],
        feed: Feed,
        *,
        settings: TransportSettings,
        budget: Budget,
        turns: Turns,
        compression: Compression | None,
        executor: Executor,
        now_s: Callable[[], float],
    ) -> None:
        self._snapshots = snapshots
        self._feed = feed
        self._settings = settings
        self._budget = budget
        self._turns = turns
        self._compression = compression
        self._executor = executor
        self._now_s = now_s
        self._states: SharedReads[str, tuple[int, bytes | Parted]] = SharedReads(self._take, _AT_ONCE)
        self._frames: SharedReads[_Wanted, Picture] = SharedReads(self._draw, _AT_ONCE)
        self._compressing = asyncio.Lock()
        self._kept: OrderedDict[_Wanted, tuple[Picture, float]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self.kept_bytes = 0
        self.drawn = 0
        """Frames made so far. All other requests shared one of them."""
        budget.make_room = self._make_room

    async def get(self, stream: str, kind: FrameKind, after: Picture | None = None) -> Picture:
        """The state of `stream` as it is now, or was a moment ago: newer events follow it.

        If the state is long and the connection takes parts, this is the first part, or the part that follows
        `after`.

        Raises as the domain's `SnapshotOf`.
        """
        wanted = _Wanted(stream, kind)
        if after is not None:
            wanted = _Wanted(stream, kind, after.seq, after.number + 1, after)
        kept = self._kept.get(wanted)
        if kept is not None:
            if after is not None or kept[0].seq == self._feed.head(stream).seq:
                return kept[0]
            self._forget(wanted)
        return await self._frames.get(wanted)

    async def framed(self, message: bytes) -> bytes:
        """A compressed frame of a message. A message above `LONG_BYTES` is compressed on another thread."""
        compression = self._compression
        if compression is None:
            return text_frame(message)
        if len(message) <= LONG_BYTES:
            return compression.frame(message)
        async with self._compressing:
            return await self._executor.run(lambda: compression.frame_apart(message))

    async def _take(self, streams: Sequence[str]) -> list[tuple[int, bytes | Parted]]:
        (stream,) = streams
        of = self._snapshots.get(stream.partition("/")[0])
        return [(self._feed.head(stream).seq, b"{}") if of is None else await of(stream)]

    async def _draw(self, all_wanted: Sequence[_Wanted]) -> list[Picture]:
        (wanted,) = all_wanted
        stream, kind, before = wanted.stream, wanted.kind, wanted.after
        if before is None:
            seq, state = await self._states.get(stream)
            link = await self._link(stream, seq) if kind.checked else b""
            start = 0
        else:
            assert before.following is not None, "the last part was made"
            seq, state, link, start = before.seq, before.state, before.link, before.following
        body, following = await self._body(stream, state, start, in_parts=kind.in_parts)
        part = Part(wanted.number, following is not None)
        message = b"" if body is None else outgoing.snapshot(stream, seq, body, link, part)
        del body
        if not message or len(message) > self._settings.reply_bytes_max:
            picture = Picture(seq, None)
        else:
            frame = await self.framed(message) if kind.compressed else text_frame(message)
            # No state is kept with the last part: no other part follows it.
            rest = state if part.more else b""
            picture = Picture(seq, frame, rest, link, wanted.number, following)
        self.drawn += 1
        self._keep(wanted, picture)
        return [picture]

    async def _body(
        self, stream: str, state: bytes | Parted, start: int, *, in_parts: bool
    ) -> tuple[bytes | None, int | None]:
        """A state or a part of it (None: it is too long), and where the next part begins."""
        if isinstance(state, bytes):
            return state, None
        if in_parts:
            return await self._turns.slice(stream, partial(state.part, start, self._settings.part_bytes_max))
        return await self._turns.join(stream, state.pieces(), self._settings.reply_bytes_max), None

    async def _link(self, stream: str, seq: int) -> bytes:
        """The link of a snapshot's event; empty if it cannot be read: the snapshot then has no check."""
        link = self._feed.peek_link(stream, seq)
        if link is not None or not seq:
            return link or b""
        try:
            return (await self._feed.links([(stream, seq)])).get((stream, seq), b"")
        except EventStoreError:
            return b""

    def _keep(self, wanted: _Wanted, picture: Picture) -> None:
        self._forget(wanted)
        size = _size(picture)
        if size > KEPT_BYTES_MAX or not self._budget.keep(size):
            return
        self._kept[_Wanted(wanted.stream, wanted.kind, wanted.seq, wanted.number)] = picture, self._now_s()
        self.kept_bytes += size
        while self.kept_bytes > KEPT_BYTES_MAX:
            self._forget(next(iter(self._kept)))
        self._wait()

    def _forget(self, wanted: _Wanted) -> None:
        kept = self._kept.pop(wanted, None)
        if kept is not None:
            size = _size(kept[0])
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
        for wanted in [wanted for wanted, (_, at_s) in self._kept.items() if at_s <= before_s]:
            self._forget(wanted)
        self._wait()


def _size(picture: Picture) -> int:
    return 0 if picture.frame is None else len(picture.frame)


class Supply(msgspec.Struct, frozen=True, kw_only=True):
    """Shared by all pumps of a server: the source of snapshots, the budgets, and the turns of the users."""

    pictures: Pictures
    budget: Budget
    intake: Intake
    estimates: Estimates
    turns: Turns
