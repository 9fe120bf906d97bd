"""Moves events from the log to one socket: the shell around `delivery`.

New events come from `fanout`: as frames that many connections share, or as a wake-up by a plain call. After
a wake-up, events that the feed holds in memory are framed and written at once. All others are fetched, a page
at a time. One task of the connection takes its snapshots, and sends each while there is room (`Snapshots`).

While the socket's buffer is full, nothing is read: the log is the buffer.

Tasks and timers change the session only in steps of the connection's actor (`ConnectionRef.step`).
`write_events` is the exception: the fan-out calls it without the door (ADR 3).
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import structlog

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.entities.decider import Busy
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.replay.feed import Run
from huahuo.transport.load.fair_queueing import Crowded, Place, Turns
from huahuo.transport.load.shares import Purse
from huahuo.transport.server.snapshots import Picture, Supply
from huahuo.transport.server.wires import Wires
from huahuo.transport.session import interface
from huahuo.transport.session.delivery_states import IllegalStepError, Subscription, Want, Wanted
from huahuo.transport.session.interface import Output
from huahuo.transport.session.session import Session
from huahuo.transport.wire.connection_ref import ConnectionEnded, ConnectionRef
from huahuo.transport.wire.ports import Socket
from huahuo.transport.wire.sends import Direct

_JOINED_BYTES_MAX: Final = 64 << 10
_ALL_JOINED_BYTES_MAX: Final = 1 << 20
RUNS_A_TURN: Final = 8
"""At most this many frames are written for one connection before others have their turn."""

_ENVELOPE_BYTES = 512
_ROOM_LOOKS = 30
"""An answer or part that finds no room in the budget tries again this often before it is refused."""
_ROOM_LOOK_S = 0.1

_log = structlog.get_logger(__name__)


class Shell(Protocol):
    """What the parts of a connection need of its actor."""

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that ends with the connection."""
        ...

    def start_in_turn(
        self, turns: Turns, user: str, work: Callable[[Place | None], Coroutine[Any, Any, None]]
    ) -> None:
        """Start a task once it is the user's turn. Without a place in line the task asks for one itself."""
        ...

    def carry_out(self, todo: Iterable[Output]) -> interface.Verify | interface.LookUp | None:
        """Carry out outputs of the session. `Verify` and `LookUp` are returned for the caller to do."""
        ...

    async def change(self) -> None:
        """Wait for the connection's next happening."""
        ...

    def stir(self) -> None:
        """Something happened that may give a tick something to do: the connection rests no more."""
        ...

    def hold(self, stream: str) -> None:
        """Send nothing more of `stream` until its readers have been judged again."""
        ...

    def go_on(self) -> None:
        """Let go on what waited for the session, and send what may be sent."""
        ...

    def went_on(self, began_s: float, position: int = 0) -> None:
        """Something was answered, by work of the loop since `began_s`: what waited may go on.

        `position`: of the log after what was answered.
        """
        ...

    def leave(self) -> None:
        """The connection is ending: it counts no more, and nothing is sent."""
        ...


_SNAPSHOT = "snapshot"
_PART = "part"
_NOT_NOW = (EventStoreError, Busy, AskTimeout, TimeoutError, Crowded)
"""Errors after which a snapshot may still be had later."""


class Snapshots:
    """The snapshots that one connection wants. True while one is wanted."""

    __slots__ = (
        "_ambient", "_door", "_pump", "_session", "_shell", "_supply", "_taking", "_wanted", "_ws",
    )  # fmt: skip

    def __init__(
        self, pump: "Pump", shell: Shell, door: ConnectionRef, *, ws: Socket, ambient: Ambient, supply: Supply
    ) -> None:
        self._ws = ws
        self._session = pump.session
        self._pump = pump
        self._ambient = ambient
        self._supply = supply
        self._shell = shell
        self._door = door
        self._wanted = Wanted(self._ambient.random)
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
            self._shell.start_task(self._take_snapshots())

    async def _take_snapshots(self) -> None:
        """Take the snapshots that are due, while the socket has room."""
        try:
            while self._ws.has_room():
                want = self._wanted.take(self._ambient.monotonic_s())
                if want is None:
                    return
                if self._session.awaits(want.sub):
                    await self._take(want)
                    self._door.step(self._pump.run)
        finally:
            self._taking = False

    async def _take(self, want: Want) -> None:
        principal, sub, now_s = self._session.principal, want.sub, self._ambient.monotonic_s
        if principal is None:
            return
        try:
            await self._send_snapshot(sub, principal.name)
        except Corrupt:
            self._door.step(partial(self._pump.end_corrupt, sub))
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
        self._shell.carry_out(self._session.refuse_snapshot(sub, reason, retry_s))

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
            await self._pump.room()

    async def _send_picture(self, sub: Subscription, before: Picture | None) -> Picture:
        """Send one frame of a snapshot. Raises Crowded if the budget has no room."""
        supply, purse = self._supply, self._pump.purse
        kind = self._session.frame_kind
        what = _PART if kind.in_parts else _SNAPSHOT
        held = supply.estimates.of(sub.stream, what)
        if before is None:
            has_room = purse.reserve(held, self._ambient.monotonic_s())
        else:  # a begun snapshot waits for room, because it would start over
            has_room = await self._pump.reserve(held)
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
                lambda: self._shell.carry_out(
                    self._session.snapshot(sub, picture.seq, picture.frame, more=more)
                )
            )
            self._pump.charge(began_s)
            return picture
        finally:
            purse.release(held)
            self._pump.count_unsent()


class Pump:
    """See the module. `door` lets in steps of tasks. Implements `fanout.Lane`."""

    __slots__ = (
        "_ambient", "_delivery", "_door", "_fanout", "_feed", "_fetching", "_page", "_purse",
        "_read_bytes_max", "_shell", "_snapshots", "_soon", "_supply", "_tally", "_watched", "_ws",
        "has_room", "session",
    )  # fmt: skip

    def __init__(
        self, shell: Shell, door: ConnectionRef, *, ws: Socket, session: Session, wires: Wires
    ) -> None:
        self._shell = shell
        self._ws = ws
        self.session = session
        self._delivery = session.delivery
        self.has_room = ws.has_room
        """See `fanout.Lane`."""
        self._feed = wires.feed
        self._fanout = wires.fanout
        self._ambient = wires.ambient
        self._read_bytes_max = wires.shared.settings.frame_bytes_max - _ENVELOPE_BYTES
        self._supply = wires.supply
        self._tally = wires.meter.tally
        self._door = door
        self._watched: set[str] = set()
        self._snapshots: Snapshots | None = None  # made on demand: few connections want one
        self._purse: Purse | None = None
        # Which subscriptions wait for what is their own state. These are facts about this shell:
        self._fetching = False  # a page is being fetched, or waits to be sent
        self._page: asyncio.Future[Run] | None = None  # the one that is being fetched
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
        tally = self._tally  # `count_written`, without its call
        tally.events += count
        tally.size_bytes += len(frame)
        self._ws.write(frame)

    def direct(self, leave: Callable[[], None]) -> tuple[Direct, int] | None:
        """See `fanout.Lane`. A connection that keeps a pace is looked at more often."""
        self._shell.stir()
        return self._ws.direct(leave)

    def on_its_own(self) -> None:
        """See `fanout.Lane`."""
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

    def hold(self, stream: str) -> None:
        """See `fanout.Lane`."""
        self._shell.hold(stream)

    def failed(self) -> None:
        """See `fanout.Lane`."""
        self._door.fault(RuntimeError("events were counted as sent, and may not have been written"))

    def take_snapshot(self, sub: Subscription) -> None:
        """Take the snapshot of a stream and send it, as soon as there is room."""
        if self._snapshots is None:
            self._snapshots = Snapshots(
                self, self._shell, self._door, ws=self._ws, ambient=self._ambient, supply=self._supply
            )
        self._snapshots.want(sub)

    @property
    def purse(self) -> Purse:
        """This connection's part of the budget. Made on first use, after authentication."""
        if self._purse is None:
            principal = self.session.principal
            assert principal is not None, "nothing large is built for a stranger"
            self._shell.stir()
            self._purse = self._supply.budget.purse(self.session.user)
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
        """The socket is closed: give its bytes back to the budget, and wait for no page."""
        if self._page is not None:
            self._page.cancel()
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

    def let_go(self) -> None:
        """The connection has ended: hold no more what holds this."""
        self._snapshots = None

    def run(self) -> None:
        """Send all that may be sent now, up to `RUNS_A_TURN` frames."""
        if not self._ws.has_room():
            return
        if self._delivery.parked:
            self._fetch_parked()
        if self._snapshots:
            self._snapshots.take()
        if not self._delivery.backlog:
            return
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
        user = self.session.user
        if not user:
            return 0.0
        self._supply.turns.charge_since(user, began_s)
        return self._supply.turns.wait_s(user)

    def _run_now(self) -> None:
        self._soon = False
        wait_s = self._supply.turns.wait_s(self.session.user)
        if wait_s > 0:  # another connection of this user went first
            self._run_soon(wait_s)
        else:
            self.run()

    def _fetch_parked(self) -> None:
        """Fetch the next page that is not in memory, first parked first, unless one is being fetched.

        A future with a callback: in a storm of clients that come back, a task for each costs more than the
        page.
        """
        if self._fetching:
            return
        sub = self._delivery.next_fetch()
        if sub is None:
            return
        session, joins = self.session, self._delivery.joins(sub)
        self._fetching = True
        self._page = page = self._feed.ask(
            sub.stream,
            sub.flow.sent,
            events_max=session.page_events_max(sub) if joins else session.read_events_max(sub),
            bytes_max=self._read_bytes_max,
            joined=joins,
        )
        page.add_done_callback(partial(self._page_came, sub))

    def _page_came(self, sub: Subscription, page: asyncio.Future[Run]) -> None:
        self._page = None
        if not page.cancelled():  # else the connection has ended
            self._door.tell_step(partial(self._take_page, sub, page))

    def _take_page(self, sub: Subscription, page: asyncio.Future[Run]) -> None:
        """Send the page that came. Pages of users that owe time are sent in turns with those of others."""
        self._fetching = False
        error = page.exception()
        if error is None:
            user, turns = self.session.user, self._supply.turns
            began_s = self._ambient.monotonic_s()
            if turns.shares.owes(user) and turns.shares.contended(began_s):
                self._fetching = True
                self._shell.start_task(self._send_in_turn(sub, page.result(), user))
                return
            self._send(sub, page.result(), began_s)
            turns.charge_since(user, began_s)
        elif isinstance(error, Corrupt):
            self.end_corrupt(sub)
        elif isinstance(error, EventStoreError):
            _log.warning("stream_not_read", stream=sub.stream)
            self._delivery.fetch_failed(sub)
        else:
            raise error
        self.run()

    async def _send_in_turn(self, sub: Subscription, run: Run, user: str) -> None:
        turns = self._supply.turns
        try:
            await turns.paid(user)
            send = partial(self._door.step, lambda: self._send(sub, run, self._ambient.monotonic_s()))
            await turns.slice(user, send)
        finally:
            self._fetching = False
        self._door.step(self.run)

    async def room(self) -> None:
        """Wait until the socket has room for something large, and let others have their turn."""
        await asyncio.sleep(0)
        while not self._ws.has_room():
            await self._shell.change()

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
        """End a subscription whose data is damaged on the disk."""
        self._shell.carry_out(self.session.corrupt(sub))
