"""Moves events from the log to one socket: the shell around `delivery`.

New events come from `fanout`: as frames that many connections share, or as a wake-up by a plain call. After
a wake-up, events that the feed holds in memory are framed and written at once. One task fetches all others,
and another one takes snapshots (`snapshots`).

While the socket's buffer is full, nothing is read: the log is the buffer.

Tasks and timers change the session only in steps of the connection's actor (`ConnectionRef.step`).
`write_events` is the exception: the fan-out calls it without the door (ADR 30).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final

import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.replay.live.feed import Feed, Run
from huahuo.transport.protocol.limits import TransportSettings
from huahuo.transport.server.budget import Purse
from huahuo.transport.server.connection_ref import ConnectionRef
from huahuo.transport.server.fanout import FanOut
from huahuo.transport.server.sends import Direct
from huahuo.transport.server.snapshots import Snapshots
from huahuo.transport.server.socket import Socket
from huahuo.transport.server.supply import Supply, Tally
from huahuo.transport.session.delivery import Subscription
from huahuo.transport.session.outputs import Output
from huahuo.transport.session.session import Session

_JOINED_BYTES_MAX: Final = 64 << 10
_ALL_JOINED_BYTES_MAX: Final = 1 << 20
RUNS_A_TURN: Final = 8
"""At most this many frames are written for one connection before others have their turn."""

_ENVELOPE_BYTES = 512
_ROOM_LOOKS = 30
"""An answer or part that finds no room in the budget tries again this often before it is refused."""
_ROOM_LOOK_S = 0.1

_log = structlog.get_logger(__name__)


class Pump:
    """See the module.

    `start` runs a coroutine as a task of the connection, `perform` carries out the session's outputs, `door`
    lets in steps of tasks, `change` waits for the connection's next happening. Implements `fanout.Lane` and
    `snapshots.Room`.
    """

    __slots__ = (
        "_ambient", "_change", "_delivery", "_door", "_fanout", "_feed", "_fetching", "_perform",
        "_purse", "_read_bytes_max", "_snapshots", "_soon", "_start", "_supply", "_tally",
        "_watched", "_ws", "has_room", "hold", "session",
    )  # fmt: skip

    def __init__(
        self,
        ws: Socket,
        session: Session,
        *,
        feed: Feed,
        fanout: FanOut,
        ambient: Ambient,
        settings: TransportSettings,
        supply: Supply,
        tally: Tally,
        start: Callable[[Coroutine[Any, Any, None]], None],
        perform: Callable[[Iterable[Output]], object],
        door: ConnectionRef,
        change: Callable[[], Awaitable[None]],
        hold: Callable[[str], None],
    ) -> None:
        self._ws = ws
        self.session = session
        self._delivery = session.delivery
        self.has_room = ws.has_room
        """See `fanout.Lane`."""
        self._feed = feed
        self._fanout = fanout
        self._ambient = ambient
        self._read_bytes_max = settings.frame_bytes_max - _ENVELOPE_BYTES
        self._supply = supply
        self._tally = tally
        self._start = start
        self._perform = perform
        self._door = door
        self._change = change
        self.hold = hold
        """See `fanout.Lane`."""
        self._watched: set[str] = set()
        self._snapshots: Snapshots | None = None  # made on demand: few connections want one
        self._purse: Purse | None = None
        # Which subscriptions wait for what is their own state. These are facts about this shell:
        self._fetching = False  # the task that fetches pages runs
        self._soon = False  # the timer for the next `run` runs

    def watch(self, stream: str) -> None:
        """Receive the events of commits that touch `stream`. Idempotent."""
        self._watched.add(stream)
        self._fanout.join(stream, self)

    def unwatch(self, stream: str) -> None:
        """Stop receiving the events of `stream`."""
        self._watched.remove(stream)
        self._fanout.leave(stream, self)

    def write_events(self, frame: bytes, count: int) -> None:
        """See `fanout.Lane`."""
        self.count_written(count, len(frame))
        self._ws.write(frame)

    def direct(self, leave: Callable[[], None]) -> tuple[Direct, int] | None:
        """See `cohorts.Marcher`."""
        return self._ws.direct(leave)

    def on_its_own(self) -> None:
        """See `cohorts.Marcher`."""
        self._ws.on_its_own()

    def count_written(self, events: int, size_bytes: int) -> None:
        """See `fanout.Lane`."""
        tally = self._tally
        tally.events += events
        tally.size_bytes += size_bytes

    def woken(self, stream: str) -> None:
        """See `fanout.Lane`."""
        self._door.tell_step(partial(self._wake, stream))

    def _wake(self, stream: str) -> None:
        self.session.woken(stream)
        self.run()

    def failed(self) -> None:
        """See `fanout.Lane`."""
        self._door.fault(RuntimeError("events were counted as sent, and may not have been written"))

    def take_snapshot(self, sub: Subscription) -> None:
        """Take the snapshot of a stream and send it, as soon as there is room."""
        if self._snapshots is None:
            self._snapshots = Snapshots(
                self._ws,
                self.session,
                self,
                ambient=self._ambient,
                supply=self._supply,
                start=self._start,
                perform=self._perform,
                door=self._door,
            )
        self._snapshots.want(sub)

    @property
    def purse(self) -> Purse:
        """This connection's part of the budget. Made on first use, after authentication."""
        if self._purse is None:
            principal = self.session.principal
            assert principal is not None, "nothing large is built for a stranger"
            self._purse = self._supply.budget.purse(principal.name)
        return self._purse

    def count_unsent(self) -> None:
        """Count the content of the write buffer in the budget."""
        if self._purse is not None or (self._ws.paused and self.session.principal is not None):
            self.purse.buffer(self._ws.unsent_bytes, self._ambient.monotonic_s())

    def stuck(self, now_s: float, stuck_s: float) -> bool:
        """Whether the client has read nothing for `stuck_s` while others are refused for want of room."""
        short_at_s = self._supply.budget.short_at_s
        if self._purse is None or short_at_s is None or now_s - short_at_s > stuck_s:
            return False
        return self._purse.stuck_s(now_s) >= stuck_s

    def gone(self) -> None:
        """The socket is closed: give its bytes back to the budget."""
        if self._purse is not None:
            self._purse.close()

    def write(self, frames: bytes) -> None:
        """Write one frame, or several in one piece: each write is a system call."""
        self._tally.size_bytes += len(frames)
        self._ws.write(frames)

    def write_all(self, frames: Sequence[bytes]) -> None:
        """Write frames in one piece, unless one is so long that a copy costs more than a system call."""
        if (
            len(frames) > 1
            and max(map(len, frames)) <= _JOINED_BYTES_MAX
            and (len(frames) <= RUNS_A_TURN or sum(map(len, frames)) <= _ALL_JOINED_BYTES_MAX)
        ):
            self.write(b"".join(frames))
        else:
            for frame in frames:
                self.write(frame)

    @property
    def at_rest(self) -> bool:
        """Whether `retry` has nothing to do, and no byte counts in the budget."""
        return self._purse is None and not (self._snapshots or self._delivery.unfinished or self._ws.paused)

    def retry(self) -> None:
        """Try again what could not be read or sent. Called about once a second, unless at rest."""
        self.count_unsent()
        if not (self._delivery.unfinished or self._snapshots):
            return  # the usual case
        self._delivery.retry()
        self.run()

    def stop(self) -> None:
        """Read nothing more."""
        for stream in self._watched:
            self._fanout.leave(stream, self)
        self._watched.clear()
        if self._snapshots is not None:
            self._snapshots.clear()

    def run(self) -> None:
        """Send all that may be sent now, up to `RUNS_A_TURN` frames."""
        if not self._ws.has_room():
            return
        if self._delivery.parked:
            self._fetch_parked()
        if self._snapshots:
            self._snapshots.take()
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
                self._delivery.park(sub)
                self._fetch_parked()
                continue
            self._send(sub, run, now_s)
            if not self._ws.has_room():
                return
        self._run_soon(self.charge(now_s))

    def _send(self, sub: Subscription, run: Run, now_s: float) -> None:
        frames = self.session.took(sub, run, now_s)
        if frames:
            self._tally.events += run.count
            self.write_all(frames)

    def _run_soon(self, wait_s: float) -> None:
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_later(wait_s, self._door.tell_step, self._run_now)

    def charge(self, began_s: float) -> float:
        """Charge the user for the loop's time since `began_s`; returns how long others go first, in s."""
        principal = self.session.principal
        if principal is None:
            return 0.0
        self._supply.turns.charge_since(principal.name, began_s)
        return self._wait_s()

    def _wait_s(self) -> float:
        principal = self.session.principal
        if principal is None:
            return 0.0
        return self._supply.turns.shares.wait_s(principal.name, self._ambient.monotonic_s())

    def _run_now(self) -> None:
        self._soon = False
        wait_s = self._wait_s()
        if wait_s > 0:  # another connection of this user went first
            self._run_soon(wait_s)
        else:
            self.run()

    def _fetch_parked(self) -> None:
        if not self._fetching:
            self._fetching = True
            self._start(self._fetch())

    async def _fetch(self) -> None:
        """Fetch events that are not in memory, a page at a time, first parked first."""
        try:
            while self._ws.has_room() and (sub := self._delivery.next_fetch()) is not None:
                try:
                    run = await self._page(sub)
                except Corrupt:
                    self._door.step(partial(self.end_corrupt, sub))
                    continue
                except EventStoreError:
                    _log.warning("stream_not_read", stream=sub.stream)
                    self._delivery.fetch_failed(sub)
                    continue
                await self._send_page(sub, run)
                del run  # a page is large, and the next fetch may take a while
                self._door.step(self.run)
        finally:
            self._fetching = False

    async def _send_page(self, sub: Subscription, run: Run) -> None:
        """Frame and write a page. Pages of users that owe time are sent one at a time."""
        principal, turns = self.session.principal, self._supply.turns
        began_s = self._ambient.monotonic_s()
        if principal is None or not (turns.shares.owes(principal.name) and turns.shares.contended(began_s)):
            self._door.step(partial(self._send, sub, run, began_s))
            self.charge(began_s)
            return
        await turns.paid(principal.name)
        send = partial(self._door.step, lambda: self._send(sub, run, self._ambient.monotonic_s()))
        await turns.slice(principal.name, send)

    def _page(self, sub: Subscription) -> Awaitable[Run]:
        session, bytes_max = self.session, self._read_bytes_max
        if self._delivery.joins(sub):
            count = session.page_events_max(sub)
            return self._feed.fetch_joined(sub.stream, sub.flow.sent, events_max=count, bytes_max=bytes_max)
        count = session.read_events_max(sub)
        return self._feed.fetch(sub.stream, sub.flow.sent, events_max=count, bytes_max=bytes_max)

    async def room(self) -> None:
        """Wait until the socket has room for something large, and let others have their turn."""
        await asyncio.sleep(0)
        while not self._ws.has_room():
            await self._change()

    async def reserve(self, size: int) -> bool:
        """Reserve bytes of the budget. Waits at most 3 s for bytes that are being sent."""
        now_s = self._ambient.monotonic_s
        for _ in range(_ROOM_LOOKS):
            if self.purse.reserve(size, now_s()):
                return True
            if not self._ws.is_open:
                return False
            await asyncio.sleep(_ROOM_LOOK_S)
            self.count_unsent()
        return False

    def end_corrupt(self, sub: Subscription) -> None:
        """See `snapshots.Room`."""
        self._perform(self.session.corrupt(sub))
