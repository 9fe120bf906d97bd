"""Delivers new events to all their subscribers, with as little work as possible for each connection.

After a commit, almost every subscriber's cursor is right before the new events. For these the events are
framed once for each kind of frame, and a loop hands the frames out, which are written together at its end
(`Sends`); neither the log, nor the memory of recent events, nor the frame cache is asked. A subscriber that
is behind, full, or owed another message first is woken to read the log itself (`pump`). A hand-out to many
takes turns with everything else of the loop; what is committed meanwhile is handed out after it, in one
piece.

Where hundreds watch a stream, looking at each session, window and socket costs nearly as much as the
sending, because none of it is still in the processor's cache. So connections that watch one stream, stand
at the same event and have a socket with nothing to write form cohorts: lists of descriptors with one
position (`session.delivery.Pace`). A connection leaves its cohort before anything else is written to it,
when its subscription is moved or held, and when its socket does not take a whole frame; it may join again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

import structlog

from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.model import StoredEvent
from huahuo.transport.protocol.frames import EventTexts, FrameCache, Framed, Framer
from huahuo.transport.session.delivery import Pace
from huahuo.transport.session.session import Session
from huahuo.transport.wire.sends import Direct, Sends


class Lane(Protocol):
    """A connection's way out."""

    @property
    def session(self) -> Session:
        """The session of this connection."""
        ...

    def direct(self, leave: Callable[[], None]) -> tuple[Direct, int] | None:
        """Its socket and the descriptor, if it has nothing to write and can be written to past its transport.

        `leave` is called before anything else is written to it, until `on_its_own`.
        """
        ...

    def on_its_own(self) -> None:
        """It has left the cohort."""
        ...

    def has_room(self) -> bool:
        """Whether frames may be written now."""
        ...

    def write_events(self, frame: bytes, count: int) -> None:
        """Write a frame of `count` events."""
        ...

    def count_written(self, events: int, size_bytes: int) -> None:
        """Count what was written to connections of this server."""
        ...

    def woken(self, stream: str) -> None:
        """A commit touched `stream`: read the new events from the log."""
        ...

    @property
    def hold(self) -> Callable[[str], None]:
        """Send nothing more of a stream until the right to read it has been judged again."""
        ...

    def failed(self) -> None:
        """This lane raised. Frames that count as sent may not have been written, so it must end."""
        ...


class Cohort:
    """Connections that are written the same frame, at the cost of the system call alone.

    `kind` is that of the frames that all its members want.
    """

    __slots__ = ("batched", "descriptors", "framer", "kind", "members", "pace", "sockets")

    def __init__(self, sent: int, like: Session) -> None:
        """Begin behind event `sent`, for connections that want the same frames as `like`."""
        delivery = like.delivery
        self.kind, self.batched = delivery.kind, delivery.batched
        self.framer: Framer | EventTexts | None = delivery.framer
        self.pace = Pace(sent)
        self.members: list[_Member] = []
        self.sockets: list[Direct] = []
        self.descriptors: list[int] = []

    def admit(self, stream: str, lane: Lane, left: Callable[[Lane], None]) -> bool:
        """Let a connection join, if it can. `left` is called with it when it has left."""
        delivery = lane.session.delivery
        found = lane.direct(delivery.leave_pace)
        if found is None:
            return False
        member = _Member(self, lane, len(self.members), left)
        if not delivery.keep_pace(stream, self.pace, member.leave):
            lane.on_its_own()
            return False
        self.members.append(member)
        self.sockets.append(found[0])
        self.descriptors.append(found[1])
        return True

    def bound_again(self) -> None:
        """Go on as far as the windows of all have room now. Those that have not much leave."""
        self.pace.unbound()
        for member in tuple(self.members):
            member.lane.session.delivery.bound_again()

    def dissolve(self) -> Sequence[Lane]:
        """All leave. Returns who they were."""
        lanes = [member.lane for member in self.members]
        for lane in lanes:
            lane.session.delivery.leave_pace()
        return lanes


class Members:
    """Who watches one stream. `alone` are those in no cohort; `served_alone` has them as a tuple."""

    __slots__ = ("_alone", "_asked", "_snapshot", "_to_ask", "all", "cohorts")

    def __init__(self) -> None:
        self.all: dict[Lane, None] = {}
        self._alone: dict[Lane, None] = {}
        self.cohorts: list[Cohort] = []
        self._snapshot: tuple[Lane, ...] | None = None
        self._asked = 0
        self._to_ask = 0

    def join(self, lane: Lane) -> None:
        """One more."""
        if lane not in self.all:
            self.all[lane] = None
            self._on_its_own(lane)

    def leave(self, lane: Lane) -> None:
        """One less, if it is one."""
        if lane in self.all:
            if lane not in self._alone:
                lane.session.delivery.leave_pace()
            del self.all[lane], self._alone[lane]
            self._snapshot = None

    def _on_its_own(self, lane: Lane) -> None:
        self._alone[lane] = None
        self._snapshot = None

    def served_alone(self) -> tuple[Lane, ...]:
        """Those who are in no cohort."""
        if self._snapshot is None:
            self._snapshot = tuple(self._alone)
        return self._snapshot

    def due_to_gather(self, every: int) -> bool:
        """Called for each hand-out. All who are served alone are asked, then nobody for `every` hand-outs."""
        if not self._to_ask:
            self._asked += 1
            if not self._asked % every:
                self._to_ask = len(self._alone)
        return self._to_ask > 0

    def gather(self, stream: str, sent: int, size_max: int) -> int:
        """Ask the next ones to join a cohort behind event `sent`. Returns how many: at most `size_max`."""
        open_: dict[str, list[Cohort]] = {}
        for cohort in self.cohorts:
            if cohort.pace.sent == sent and cohort.pace.lasts and len(cohort.members) < size_max:
                open_.setdefault(cohort.kind, []).append(cohort)
        asked = tuple(islice(self._alone, min(size_max, self._to_ask)))
        self._to_ask = self._to_ask - len(asked) if asked else 0
        for lane in asked:
            fitting = open_.setdefault(lane.session.delivery.kind, [])
            if not fitting:
                fitting.append(Cohort(sent, lane.session))
            cohort = fitting[-1]
            joined = cohort.admit(stream, lane, self._on_its_own)
            del self._alone[lane]
            if not joined:
                self._alone[lane] = None  # behind all others
                continue
            if len(cohort.members) == 1 and cohort not in self.cohorts:
                self.cohorts.append(cohort)
            if len(cohort.members) >= size_max:
                fitting.pop()
        self._snapshot = None
        return len(asked)


class _Member:
    """One connection in a cohort, and its place there."""

    __slots__ = ("_cohort", "_left", "at", "lane")

    def __init__(self, cohort: Cohort, lane: Lane, at: int, left: Callable[[Lane], None]) -> None:
        self._cohort = cohort
        self.lane = lane
        self.at = at
        self._left = left

    def leave(self) -> None:
        """Give up the place: the last member takes it."""
        cohort, at = self._cohort, self.at
        last, socket, descriptor = cohort.members.pop(), cohort.sockets.pop(), cohort.descriptors.pop()
        if last is not self:
            last.at = at
            cohort.members[at], cohort.sockets[at], cohort.descriptors[at] = last, socket, descriptor
        self.lane.on_its_own()
        self._left(self.lane)


LANES_A_STEP: Final = 256
"""How many frames are written before the next look at the clock: 2 to 3 ms."""
_SLICE_S = 0.0025
"""After this time and the step that was begun, others have the loop: at most some 5 ms."""
_KEPT_EVENTS_MAX = 8192
"""Beyond this many new events during one hand-out, all subscribers are woken to read the log itself."""

_COHORTS_FROM: Final = 16
_GATHER_EVERY: Final = 8

_log = structlog.get_logger(__name__)


class FanOut:
    """See the module. All methods belong to the loop's thread; `committed` is a `replay.live.feed.Tap`."""

    def __init__(
        self,
        frames: FrameCache,
        *,
        events_max: int,
        monotonic_s: Callable[[], float],
        sends: Sends | None = None,
        later: Callable[[Callable[[], None]], object] | None = None,
        lanes_a_step: int = LANES_A_STEP,
        cohorts_from: int = _COHORTS_FROM,
        gather_every: int = _GATHER_EVERY,
    ) -> None:
        """A frame holds at most `events_max` events.

        A stream with fewer than `cohorts_from` subscribers has no cohorts. One that is served alone is
        asked to join one again after `gather_every` hand-outs of the stream.
        `later` calls a function in the loop's next turn. Without it a commit is handed out in one turn.
        """
        self._frames = frames
        self._events_max = events_max
        self._monotonic_s = monotonic_s
        self._sends = sends or Sends()
        self._later = later
        self._lanes_a_step = lanes_a_step
        self._cohorts_from = cohorts_from
        self._gather_every = gather_every
        self._work: Iterator[None] | None = None  # the hand-out that goes on
        self._next: dict[str, list[StoredEvent]] = {}  # what was committed meanwhile
        self._kept = 0
        self._streams: dict[str, Members] = {}

    @property
    def stream_count(self) -> int:
        """How many streams have a lane."""
        return len(self._streams)

    def join(self, stream: str, lane: Lane) -> None:
        """Serve `lane` with the events of `stream`. Idempotent."""
        members = self._streams.get(stream)
        if members is None:
            members = self._streams[stream] = Members()
        members.join(lane)

    def leave(self, stream: str, lane: Lane) -> None:
        """Stop serving `lane` with `stream`. Idempotent."""
        members = self._streams.get(stream)
        if members is None:
            return
        members.leave(lane)
        if not members.all:
            del self._streams[stream]

    def hold(self, stream: str, user_id: UserId | None = None) -> None:
        """The readers of `stream` must be judged again, before they get events from now on.

        `user_id`: only the connections of this user.
        """
        members = self._streams.get(stream)
        for lane in () if members is None else tuple(members.all):
            principal = lane.session.principal
            if user_id is not None and (principal is None or principal.user_id != user_id):
                continue
            try:
                lane.hold(stream)
            except Exception:  # noqa: BLE001  one connection's fault is not the others'
                _log.exception("lane_failed", stream=stream)
                _end(lane)

    def watches(self, stream: str) -> bool:
        """Whether `stream` has subscribers."""
        return stream in self._streams

    def watched(self) -> Sequence[str]:
        """The streams that have subscribers."""
        return tuple(self._streams)

    def committed(self, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        """Events were committed, without gaps in any stream. None: any stream may have new events."""
        if by_stream is not None and self._work is None:
            if self._streams.keys().isdisjoint(by_stream):
                return  # nobody watches any of these streams
            self._work = self._through(by_stream)
            self._go_on()
        elif by_stream is None or not self._keep(by_stream):
            self._wake_all()

    def _keep(self, by_stream: Mapping[str, Sequence[StoredEvent]]) -> bool:
        """Keep events until the hand-out that goes on has ended. False: they are too many.

        A stream that nobody reads is left out, unless events of it are kept already: those of a stream must
        have no gap, and somebody may join it meanwhile.
        """
        following, kept = self._next, self._kept
        for stream, events in by_stream.items():
            if stream in self._streams or stream in following:
                kept += len(events)
                if kept > _KEPT_EVENTS_MAX:
                    return False
                known = following.get(stream)
                if known is None:
                    following[stream] = list(events)
                else:
                    known += events
        self._kept = kept
        return True

    def _wake_all(self) -> None:
        self._next.clear()
        self._kept = count = 0
        self._sends.begin()
        try:
            for stream, members in tuple(self._streams.items()):
                for lane in tuple(members.all):
                    _wake(lane, stream)
                    count += 1
                    if not count % self._lanes_a_step:
                        self._sends.flush()
        finally:
            self._sends.end()

    def _go_on(self) -> None:
        """Hand out until all is handed out, or until others must have the loop."""
        assert self._work is not None
        began_s = self._monotonic_s()
        self._sends.begin()
        try:
            for _ in self._work:
                self._sends.flush()
                if self._later is not None and self._monotonic_s() - began_s >= _SLICE_S:
                    self._later(self._go_on)
                    return
            self._work = None
        except Exception:  # noqa: BLE001  subscribers read the log itself
            _log.exception("events_not_handed_out")
            self._work = None
            self._wake_all()
        finally:
            self._sends.end()

    def _through(self, by_stream: Mapping[str, Sequence[StoredEvent]]) -> Iterator[None]:
        """Hand out a commit, then those that came meanwhile as one; a step is some lanes."""
        a_step = self._lanes_a_step
        while by_stream:
            now_s, count = self._monotonic_s(), 0
            subscribed = self._streams
            for stream, events in by_stream.items():
                if stream not in subscribed:
                    continue
                members = subscribed[stream]
                among = len(members.all)
                if members.cohorts or (among >= self._cohorts_from and self._sends.direct):
                    for served in self._serve_together(stream, events, members):
                        count += served
                        if count >= a_step:
                            count = 0
                            yield
                    now_s = self._monotonic_s()
                lanes = members.served_alone()
                for at in range(0, len(lanes), a_step):
                    chosen = lanes
                    if len(lanes) > a_step:  # some may have left since the step before
                        chosen = tuple(lane for lane in lanes[at : at + a_step] if lane in members.all)
                    try:
                        if among == 1 and len(events) <= self._events_max:
                            self._serve_one(stream, events, lanes[0], now_s)
                        else:
                            self._serve(stream, events, chosen, now_s, shared=among > 1)
                    except Exception:  # noqa: BLE001  framing failed: subscribers read the log itself
                        _log.exception("events_not_framed", stream=stream)
                        for lane in chosen:
                            _wake(lane, stream)
                    count += len(chosen)
                    if count >= a_step:
                        count = 0
                        yield
                        now_s = self._monotonic_s()
            by_stream, self._next, self._kept = self._next, {}, 0

    def _serve_together(self, stream: str, events: Sequence[StoredEvent], members: Members) -> Iterator[int]:
        """Hand events out to cohorts. Yields how many lanes were asked to join one, or served, after each."""
        head = events[-1]
        first = (head.seq if head.stream == stream else head.position) - len(events) + 1
        if members.due_to_gather(self._gather_every):
            self._sends.flush()  # so that sockets have nothing to write
            yield members.gather(stream, first - 1, self._lanes_a_step)
        for cohort in tuple(members.cohorts):
            size = len(cohort.members)
            if size:
                self._serve_cohort(stream, first, events, cohort)
                yield size
            if not cohort.members:
                members.cohorts.remove(cohort)

    def _serve_cohort(self, stream: str, first: int, events: Sequence[StoredEvent], cohort: Cohort) -> None:
        """Write events to a cohort; if that is not possible in one frame for all, each goes on by itself."""
        pace, count = cohort.pace, len(events)
        if not pace.admits(pace.sent + count):
            cohort.bound_again()
        if pace.sent != first - 1 or count > self._events_max or not pace.admits(pace.sent + count):
            cohort.dissolve()
            return
        framed = self._frames.run(stream, first, events, batch=cohort.batched, framer=cohort.framer)
        if framed.count != count:
            cohort.dissolve()
            return
        pace.moved(pace.sent + count, self._monotonic_s())
        size = len(cohort.members)
        cohort.members[0].lane.count_written(size * count, size * len(framed.data))
        try:
            self._sends.write_all(cohort.sockets, cohort.descriptors, framed.data)
        except Exception:  # noqa: BLE001  its recipients are unknown
            _log.exception("events_not_written", stream=stream)
            for lane in cohort.dissolve():
                _end(lane)

    def _serve_one(self, stream: str, events: Sequence[StoredEvent], lane: Lane, now_s: float) -> None:
        """As `_serve`, for the usual case of a stream that one reads: a frame of its own holds all events."""
        session, count = lane.session, len(events)
        delivery, head = session.delivery, events[-1]
        first = (head.seq if head.stream == stream else head.position) - count + 1
        framed = self._frames.unshared(stream, first, events, batch=delivery.batched, framer=delivery.framer)
        if framed.count != count or not (lane.has_room() and session.take(stream, first, count, now_s)):
            _wake(lane, stream)
            return
        try:
            lane.write_events(framed.data, count)
        except Exception:  # noqa: BLE001  one connection's fault is not the others'
            _log.exception("events_not_written")
            _end(lane)

    def _serve(
        self,
        stream: str,
        events: Sequence[StoredEvent],
        lanes: tuple[Lane, ...],
        now_s: float,
        *,
        shared: bool,
    ) -> None:
        head = events[-1]
        # On `log` a seq is a position, and the positions of one commit are consecutive.
        first = (head.seq if head.stream == stream else head.position) - len(events) + 1
        build = self._frames.run if shared else self._frames.unshared
        at, end = 0, len(events)
        while at < end:
            if at:
                self._sends.flush()  # so that what waits for one connection stays within its bound
            part = events[at : at + self._events_max] if at or end > self._events_max else events
            made: dict[str, Framed] = {}
            count = len(part)
            for lane in lanes:
                session = lane.session
                delivery = session.delivery
                framed = made.get(delivery.kind)
                if framed is None:
                    framed = made[delivery.kind] = build(
                        stream, first + at, part, batch=delivery.batched, framer=delivery.framer
                    )
                    count = min(count, framed.count)
                if lane.has_room() and session.take(stream, first + at, framed.count, now_s):
                    try:
                        lane.write_events(framed.data, framed.count)
                    except Exception:  # noqa: BLE001  one connection's fault is not the others'
                        _log.exception("events_not_written")
                        _end(lane)
                else:
                    _wake(lane, stream)
            at += count


def _wake(lane: Lane, stream: str) -> None:
    try:
        lane.woken(stream)
    except Exception:  # noqa: BLE001  as above
        _log.exception("lane_failed", stream=stream)
        _end(lane)


def _end(lane: Lane) -> None:
    try:
        lane.failed()
    except Exception:  # noqa: BLE001  as above
        _log.exception("lane_not_ended")
