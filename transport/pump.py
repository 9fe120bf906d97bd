"""Moves events from the log to one socket: the shell around `delivery`.

New events come through `fanout`, as frames that many share, or as a wake-up by a plain call. Then what
the feed holds in memory is framed and written at once; what it does not hold is fetched by one task,
and snapshots are taken by another, one after the other. While the socket's buffer is full nothing is
read: the log is the buffer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

import structlog

from eventstore.ambient import Ambient
from eventstore.errors import Corrupt, EventStoreError
from replay.feed import Feed, Run
from transport.api import SnapshotOf
from transport.delivery import Subscription
from transport.fanout import FanOut
from transport.outputs import Output
from transport.parts import Part, Parted
from transport.session import Session
from transport.settings import TransportSettings
from transport.websocket import WebSocket

RUNS_A_TURN: Final = 8
"""Frames written for one connection before others have their turn."""

_ENVELOPE_BYTES = 512

_log = structlog.get_logger(__name__)


class Tally:
    """What all connections wrote since it was last looked at; plain numbers, for they change often."""

    __slots__ = ("events", "size_bytes")

    def __init__(self) -> None:
        self.events = 0
        self.size_bytes = 0


class Pump:
    """See the module.

    `start` runs a coroutine as a task of the connection, `perform` does what the session says, `fail`
    ends the connection, `change` waits until something happened there. Implements `fanout.Lane`.
    """

    __slots__ = (
        "_ambient", "_change", "_fail", "_fanout", "_feed", "_fetching", "_parked", "_part_bytes_max",
        "_perform", "_pictures", "_read_bytes_max", "_snapshots", "_soon", "_start", "_taking",
        "_tally", "_unread", "_watched", "_ws", "has_room", "session",
    )  # fmt: skip

    def __init__(
        self,
        ws: WebSocket,
        session: Session,
        *,
        feed: Feed,
        fanout: FanOut,
        ambient: Ambient,
        settings: TransportSettings,
        snapshots: Mapping[str, SnapshotOf],
        tally: Tally,
        start: Callable[[Coroutine[Any, Any, None]], None],
        perform: Callable[[Iterable[Output]], object],
        fail: Callable[[str], None],
        change: Callable[[], Awaitable[None]],
    ) -> None:
        self._ws = ws
        self.session = session
        self.has_room = ws.has_room
        """See `fanout.Lane`."""
        self._feed = feed
        self._fanout = fanout
        self._ambient = ambient
        self._read_bytes_max = settings.frame_bytes_max - _ENVELOPE_BYTES
        self._snapshots = snapshots
        self._tally = tally
        self._start = start
        self._perform = perform
        self._fail = fail
        self._change = change
        self._part_bytes_max = settings.part_bytes_max
        self._watched: set[str] = set()
        self._parked: list[Subscription] = []  # to be fetched
        self._unread: list[Subscription] = []  # a fetch failed: tried again after a while
        self._pictures: list[Subscription] = []  # a snapshot is wanted
        self._fetching = False
        self._taking = False
        self._soon = False

    def watch(self, stream: str) -> None:
        """Be served with the events of commits that touch `stream`. Idempotent."""
        self._watched.add(stream)
        self._fanout.join(stream, self)

    def unwatch(self, stream: str) -> None:
        """No longer."""
        self._watched.remove(stream)
        self._fanout.leave(stream, self)

    def write_events(self, frame: bytes, count: int) -> None:
        """See `fanout.Lane`."""
        tally = self._tally
        tally.events += count
        tally.size_bytes += len(frame)
        self._ws.write(frame)

    def woken(self, stream: str) -> None:
        """See `fanout.Lane`."""
        self.session.woken(stream)
        self.run()

    def failed(self) -> None:
        """See `fanout.Lane`."""
        self._fail("internal error")

    def take_snapshot(self, sub: Subscription) -> None:
        """Get the state of a stream and send it."""
        self._pictures.append(sub)
        if not self._taking:
            self._taking = True
            self._start(self._take_snapshots())

    def write(self, frames: bytes) -> None:
        """Write one frame, or several in one piece: each write is a system call."""
        self._tally.size_bytes += len(frames)
        self._ws.write(frames)

    def retry(self) -> None:
        """Some time went by: try again what could not be read."""
        if not (self._unread or self._parked or self.session.delivery.backlog):
            return  # as good as always, and asked of every connection once a second
        for sub in self._unread:
            self.session.delivery.unpark(sub)
        self._unread.clear()
        self.run()

    def stop(self) -> None:
        """Read nothing more."""
        for stream in self._watched:
            self._fanout.leave(stream, self)
        self._watched.clear()
        self._parked.clear()
        self._unread.clear()
        self._pictures.clear()

    def run(self) -> None:
        """Send what may be sent now."""
        if not self._ws.has_room():
            return
        if self._parked:
            self._fetch_parked()
        session, now_s = self.session, self._ambient.monotonic_s()
        for _ in range(RUNS_A_TURN):
            sub = session.next_read()
            if sub is None:
                lag = session.stalled(now_s)
                if lag is not None:
                    self.write(lag)
                return
            run = self._feed.peek(
                sub.stream,
                sub.flow.sent,
                events_max=session.read_events_max(sub),
                bytes_max=self._read_bytes_max,
            )
            if run is None:
                session.delivery.park(sub)
                self._parked.append(sub)
                self._fetch_parked()
                continue
            self._send(sub, run, now_s)
            if not self._ws.has_room():
                return
        self._run_soon()

    def _send(self, sub: Subscription, run: Run, now_s: float) -> None:
        frames = self.session.took(sub, run, now_s)
        if frames:
            self._tally.events += run.count
            self.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def _run_soon(self) -> None:
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._run_now)

    def _run_now(self) -> None:
        self._soon = False
        self.run()

    def _fetch_parked(self) -> None:
        if self._parked and not self._fetching:
            self._fetching = True
            self._start(self._fetch())

    async def _fetch(self) -> None:
        """Read what is not in memory, a page at a time, in the order in which it was wanted."""
        try:
            while self._parked and self._ws.has_room():
                sub = self._parked.pop(0)
                try:
                    run = await self._page(sub)
                except Corrupt:
                    self._perform(self.session.corrupt(sub))
                    continue
                except EventStoreError:
                    _log.warning("stream_not_read", stream=sub.stream)
                    self._unread.append(sub)
                    continue
                self._send(sub, run, self._ambient.monotonic_s())
                self.run()
        except Exception:  # noqa: BLE001  a fault of ours; the client comes back to another connection
            _log.exception("fetch_failed")
            self._fail("internal error")
        finally:
            self._fetching = False

    def _page(self, sub: Subscription) -> Awaitable[Run]:
        session, bytes_max = self.session, self._read_bytes_max
        if session.delivery.joins(sub):
            count = session.page_events_max(sub)
            return self._feed.fetch_joined(sub.stream, sub.flow.sent, events_max=count, bytes_max=bytes_max)
        count = session.read_events_max(sub)
        return self._feed.fetch(sub.stream, sub.flow.sent, events_max=count, bytes_max=bytes_max)

    async def _take_snapshots(self) -> None:
        try:
            while self._pictures:
                sub = self._pictures.pop(0)
                await self._take(sub)
                self.run()
        except Exception:  # noqa: BLE001  a fold's fault; the client comes back to another snapshot
            _log.exception("snapshot_failed")
            self._fail("no snapshot for now")
        finally:
            self._taking = False

    async def room(self) -> None:
        """Wait until the socket has room for something large, and let others have their turn."""
        await asyncio.sleep(0)
        while not self._ws.has_room():
            await self._change()

    async def _take(self, sub: Subscription) -> None:
        of = self._snapshots.get(sub.stream.partition("/")[0])
        state: bytes | Parted = b"{}"
        if of is None:
            seq = self._feed.head(sub.stream).seq
        else:
            try:
                seq, state = await of(sub.stream)
            except Corrupt:
                self._perform(self.session.corrupt(sub))
                return
        link = self._feed.peek_link(sub.stream, seq)
        if link is None and seq and self.session.delivery.batched:
            link = await self._link(sub.stream, seq)
        link = link or b""
        if isinstance(state, bytes) or not self.session.parts:
            self._perform(self.session.snapshot(sub, seq, state, link))
            return
        parts, number, more = state.parts(self._part_bytes_max), 0, True
        while more:
            await self.room()
            if not self.session.awaits(sub):
                return
            number += 1
            body, more = next(parts)
            self._perform(self.session.snapshot(sub, seq, body, link, Part(number, more)))

    async def _link(self, stream: str, seq: int) -> bytes | None:
        """The link of a snapshot's event. A snapshot without a check is better than none."""
        try:
            return (await self._feed.links([(stream, seq)])).get((stream, seq))
        except EventStoreError:
            return None
