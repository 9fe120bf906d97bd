"""Snapshots of streams: made as frames once for all who want one, and sent by each connection one at a time.

`Pictures`: a state is taken once for all connections that ask while it is being taken. A connection that
takes parts gets them one at a time; each part is made when the connection asks for it. Frames are kept for
5 s while the process's budget has room: after a restart, or when a window was too small, many connections
of one user want the same frame. Text is made in slices, by turns. Large frames are compressed on another
thread.

`Snapshots`: one task of a connection takes them, and sends each while there is room.

`Supply` says where all connections of a server have snapshots, and room to read and to write, from.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

import msgspec
import structlog

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.entities.decider import Busy
from huahuo.actors.plugins.actions import SnapshotOf
from huahuo.actors.plugins.calls import Parted
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.eventstore.executor import Executor
from huahuo.replay.feed import Feed, SharedReads
from huahuo.transport.load.fair_queueing import Crowded, Turns
from huahuo.transport.load.intake import Intake
from huahuo.transport.load.shares import Budget, Estimates, Purse
from huahuo.transport.protocol.dialects import Compression
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.frames import text_frame
from huahuo.transport.protocol.kinds import Part
from huahuo.transport.session import outgoing
from huahuo.transport.session.calls import LONG_BYTES
from huahuo.transport.session.delivery_states import IllegalStepError, Subscription, Want, Wanted
from huahuo.transport.session.interface import Output
from huahuo.transport.session.session import FrameKind, Session
from huahuo.transport.wire.connection_ref import ConnectionEnded, ConnectionRef
from huahuo.transport.wire.ports import Socket

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
    """See the module. All methods belong to the loop's thread."""

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


_SNAPSHOT = "snapshot"
_PART = "part"
_NOT_NOW = (EventStoreError, Busy, AskTimeout, TimeoutError, Crowded)
"""Errors after which a snapshot may still be had later."""

_log = structlog.get_logger(__name__)


class Room(Protocol):
    """What snapshots need of the connection's pump."""

    @property
    def purse(self) -> Purse:
        """This connection's part of the budget."""
        ...

    def run(self) -> None:
        """Send what may be sent now."""
        ...

    async def room(self) -> None:
        """Wait until the socket has room for something large."""
        ...

    async def reserve(self, size: int) -> bool:
        """Reserve bytes of the budget."""
        ...

    def count_unsent(self) -> None:
        """Count the content of the write buffer in the budget."""
        ...

    def charge(self, began_s: float) -> float:
        """Charge the user for the loop's time since `began_s`."""
        ...

    def end_corrupt(self, sub: Subscription) -> None:
        """End a subscription whose data is damaged on the disk."""
        ...


class Snapshots:
    """See the module. True while one is wanted. `start` and `perform` are the pump's."""

    __slots__ = (
        "_ambient", "_door", "_perform", "_room", "_session", "_start", "_supply", "_taking", "_wanted",
        "_ws",
    )  # fmt: skip

    def __init__(
        self,
        ws: Socket,
        session: Session,
        room: Room,
        *,
        ambient: Ambient,
        supply: Supply,
        start: Callable[[Coroutine[Any, Any, None]], None],
        perform: Callable[[Iterable[Output]], object],
        door: ConnectionRef,
    ) -> None:
        self._ws = ws
        self._session = session
        self._room = room
        self._ambient = ambient
        self._supply = supply
        self._start = start
        self._perform = perform
        self._door = door
        self._wanted = Wanted(ambient.random)
        self._taking = False  # the task that takes snapshots runs

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def want(self, sub: Subscription) -> None:
        """Take the snapshot of a stream and send it, as soon as there is room."""
        self._wanted.want(sub, self._ambient.monotonic_s())
        self.take()

    def clear(self) -> None:
        """None is wanted any more."""
        self._wanted.clear()

    def take(self) -> None:
        """Go on taking what is wanted, if the socket has room."""
        if not self._taking and self._ws.has_room():
            self._taking = True
            self._start(self._take_snapshots())

    async def _take_snapshots(self) -> None:
        """Take the snapshots that are due, while the socket has room."""
        try:
            while self._ws.has_room():
                want = self._wanted.take(self._ambient.monotonic_s())
                if want is None:
                    return
                if self._session.awaits(want.sub):
                    await self._take(want)
                    self._door.step(self._room.run)
        finally:
            self._taking = False

    async def _take(self, want: Want) -> None:
        principal, sub, now_s = self._session.principal, want.sub, self._ambient.monotonic_s
        if principal is None:
            return
        try:
            await self._send_snapshot(sub, principal.name)
        except Corrupt:
            self._door.step(partial(self._room.end_corrupt, sub))
        except _NOT_NOW:
            retry_s = self._wanted.not_now(want, now_s())
            if retry_s is not None:
                self._door.step(partial(self._refuse_snapshot, sub, "busy", retry_s))
        except (ConnectionEnded, IllegalStepError):
            raise  # no fold's fault
        except Exception:  # noqa: BLE001  the fold's fault: only this subscription ends
            _log.exception("snapshot_failed", stream=sub.stream)
            if self._wanted.failed(want, now_s()):
                self._door.step(partial(self._refuse_snapshot, sub, "internal"))

    def _refuse_snapshot(self, sub: Subscription, reason: str, retry_s: float | None = None) -> None:
        self._perform(self._session.refuse_snapshot(sub, reason, retry_s))

    async def _send_snapshot(self, sub: Subscription, user: str) -> None:
        """Send all of it, or part by part, each when it is the user's turn and the socket has room.

        If sending fails, it begins again with the first part of a newer state. If the subscription moves on,
        the sending ends.
        """
        picture: Picture | None = None
        while self._session.awaits(sub):
            async with self._supply.turns.turn(user):
                if self._ws.has_room() and self._session.awaits(sub):
                    picture = await self._send_picture(sub, picture)
                    if picture.following is None:
                        return
            await self._room.room()

    async def _send_picture(self, sub: Subscription, before: Picture | None) -> Picture:
        """Send one frame of a snapshot. Raises Crowded if the budget has no room."""
        supply, purse = self._supply, self._room.purse
        kind = self._session.frame_kind
        what = _PART if kind.in_parts else _SNAPSHOT
        held = supply.estimates.of(sub.stream, what)
        if before is None:
            has_room = purse.reserve(held, self._ambient.monotonic_s())
        else:  # a begun snapshot waits for room, because it would start over
            has_room = await self._room.reserve(held)
        if not has_room:
            raise Crowded(sub.stream)
        try:
            picture = await supply.pictures.get(sub.stream, kind, before)
            if picture.frame is not None:
                size = len(picture.frame)
                supply.estimates.learn(sub.stream, what, size)
                purse.correct(held, size)
                held = size
            more = picture.following is not None
            began_s = self._ambient.monotonic_s()
            self._door.step(
                lambda: self._perform(self._session.snapshot(sub, picture.seq, picture.frame, more=more))
            )
            self._room.charge(began_s)
            return picture
        finally:
            purse.release(held)
            self._room.count_unsent()
