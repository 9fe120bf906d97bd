"""The events that one connection must still be sent (PROTOCOL 4, 5). Pure.

A subscription is a cursor with a state, and `delivery_states.TABLE` lists how the state may change
(docs/delivery.md). READY ones take turns, one run each, so that a busy stream starves no other. A
subscription gets no turn while it waits for a snapshot, for a page from the store, or for the reply to a
command of this connection whose event is next: a reply is sent before all events that its command caused.

`next_read` gives the subscription whose turn it is; `took` makes frames of the events that were read for
it. When events come, a subscription is nearly always LIVE: `take` is the short way for that case.

While subscriptions of different connections are at the same event, and each is ready for the next one, what
was sent to them is counted once, in `Pace`. A connection counts it for itself only when it is looked at: at
an ack, at a tick, or when it goes another way than the others. Everything that moves a subscription or uses
the window calls `leave_pace` or `catch_up` first.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, cast

from huahuo.eventstore.core.chain import check_of
from huahuo.eventstore.model import LOG_STREAM, Head, Joined, StoredEvent
from huahuo.transport.protocol.flow_control import Flow, Window
from huahuo.transport.protocol.frames import EventTexts, FrameCache, Framer, kind_of
from huahuo.transport.session import outgoing
from huahuo.transport.session.delivery_states import TABLE, Cause, DeliveryState, Step, Subscription
from huahuo.transport.session.interface import LogView, RunLike

LASTS_EVENTS: Final = 64
"""With less room in a window, a pace would be left after a few events."""


class Pace:
    """The last seq that was sent to all who keep this pace, and when.

    No window of theirs ends before seq `limit`. None: it is not kept yet.
    """

    __slots__ = ("limit", "moved_s", "sent")

    def __init__(self, sent: int) -> None:
        """Begin after seq `sent`."""
        self.sent = sent
        self.moved_s = 0.0
        self.limit: int | None = None

    @property
    def lasts(self) -> bool:
        """Whether it goes on for some events: else it is not worth joining."""
        return self.limit is not None and self.limit - self.sent >= LASTS_EVENTS

    def admits(self, seq: int) -> bool:
        """Whether all may be sent the events up to `seq` without a look at each."""
        return self.limit is not None and seq <= self.limit

    def unbound(self) -> None:
        """Windows may have room again: each that goes on tells its limit by `bound`."""
        self.limit = None

    def bound(self, limit: int) -> None:
        """One keeps it whose window has room up to seq `limit`."""
        self.limit = limit if self.limit is None else min(self.limit, limit)

    def moved(self, to: int, now_s: float) -> None:
        """The events up to `to` were sent to all."""
        self.sent = to
        self.moved_s = now_s


_TURN_CAME: Final = TABLE.column(Step.TURN_CAME)


# Read or taken for each delivery or run:
_LIVE: Final = DeliveryState.LIVE
_READY: Final = DeliveryState.READY
_TURN: Final = DeliveryState.TURN
_HEAD_MOVED: Final = TABLE.column(Step.HEAD_MOVED)
_AT_HEAD: Final = TABLE.column(Step.AT_HEAD)
_BEHIND: Final = TABLE.column(Step.BEHIND)


class Delivery:
    """See the module. `framer` makes frames of runs; None: text frames."""

    __slots__ = (
        "_failed", "_frames", "_lag_at_s", "_left", "_log", "_pace", "_paced", "_past", "_past_max",
        "_pending", "_ready", "batched", "framer", "kind", "parked", "subs", "window",
    )  # fmt: skip

    def __init__(
        self,
        log: LogView,
        frames: FrameCache,
        *,
        batched: bool,
        window: int,
        past_max: int,
        framer: Framer | EventTexts | None = None,
    ) -> None:
        self._pace: Pace | None = None
        self._paced: Subscription | None = None  # the one that keeps it
        self._left: Callable[[], None] | None = None
        self.window = Window(window)
        self.batched = batched
        self._ready: dict[str, Subscription] = {}
        self._failed: list[Subscription] = []
        self.parked: list[Subscription] = []
        """Subscriptions in state PARKED, first parked first."""
        self._log = log
        self._frames = frames
        self.framer = framer
        self.kind = kind_of(batch=batched, framer=framer)
        self._past_max = past_max
        self._past: dict[str, int] = {}
        self._pending: dict[Cause, int] = {}
        self._lag_at_s: float | None = None
        self.subs: dict[str, Subscription] = {}

    @property
    def paced(self) -> bool:
        """Whether what is sent is counted by a pace."""
        return self._pace is not None

    def catch_up(self) -> None:
        """Count for this connection what was sent to all who keep its pace.

        If its window was empty, the wait for an ack begins with the newest of these events: it is looked at
        every few seconds.
        """
        pace, sub = self._pace, self._paced
        if pace is not None and sub is not None and pace.sent > sub.flow.sent:
            self.window.sent(sub.flow, pace.sent, pace.moved_s)

    def leave_pace(self) -> None:
        """Go on alone. Nothing happens if that is so."""
        if self._pace is None:
            return
        self.catch_up()
        left = self._left
        self._pace = self._paced = self._left = None
        assert left is not None
        left()

    @property
    def unacked_since_s(self) -> float | None:
        """Since when an ack is owed. See `Window`."""
        self.catch_up()
        return self.window.waiting_since_s

    @property
    def backlog(self) -> bool:
        """Whether a subscription is ready to be read."""
        return bool(self._ready)

    @property
    def unfinished(self) -> bool:
        """Whether a subscription waits for a turn, for a fetch, or for another try."""
        return bool(self._ready or self.parked or self._failed)

    def next_read(self) -> Subscription | None:
        """The subscription to read next, from behind its `flow.sent`; None if none may send."""
        if not self._ready or (self.batched and self.window.credit <= 0):
            return None
        sub = self._ready.pop(next(iter(self._ready)))
        sub.state = _TURN_CAME[sub.state]
        return sub

    def park(self, sub: Subscription) -> None:
        """The events of `sub` must be fetched. It has no turn until `took`."""
        sub.state = TABLE[sub.state, Step.NOT_IN_MEMORY]
        self.parked.append(sub)

    def next_fetch(self) -> Subscription | None:
        """The subscription to fetch a page for; `took` or `fetch_failed` follows. None: none is parked."""
        if not self.parked:
            return None
        sub = self.parked.pop(0)
        sub.state = TABLE[sub.state, Step.FETCH_BEGAN]
        return sub

    def fetch_failed(self, sub: Subscription) -> None:
        """The page of `sub` could not be read for now. It has no turn until `retry`."""
        if sub.state is not DeliveryState.GONE:
            sub.state = TABLE[sub.state, Step.FETCH_FAILED]
            self._failed.append(sub)

    def retry(self) -> None:
        """Try again what `fetch_failed`."""
        self.leave_pace()
        for sub in self._failed:
            sub.state = TABLE[sub.state, Step.RETRIED]
            self._ready[sub.stream] = sub
        self._failed.clear()

    def _end(self, sub: Subscription) -> None:
        """End `sub`, and take it out of the queue of its state."""
        match sub.state:
            case DeliveryState.READY:
                del self._ready[sub.stream]
            case DeliveryState.PARKED:
                self.parked.remove(sub)
            case DeliveryState.FAILED:
                self._failed.remove(sub)
        sub.state = TABLE[sub.state, Step.ENDED]
        sub.held_for = None

    def add(self, stream: str, after: int, *, waiting: bool) -> Subscription:
        """Subscribe, or move a subscription. Reading starts with `settle`; if `waiting`, with `place`."""
        self.drop(stream)
        sub = Subscription(stream, after, self._past.pop(stream, 0))
        if waiting:
            sub.state = TABLE[sub.state, Step.SNAPSHOT_NEEDED]
        self.subs[stream] = sub
        return sub

    def drop(self, stream: str) -> bool:
        """End a subscription. What was sent may still be acked."""
        self.leave_pace()
        sub = self.subs.pop(stream, None)
        if sub is None:
            return False
        self._end(sub)
        self.window.dropped(sub.flow)
        self._past[stream] = sub.flow.peak
        if len(self._past) > self._past_max:
            del self._past[next(iter(self._past))]
        return True

    def end(self) -> None:
        """The connection ends, and every subscription with it."""
        self.leave_pace()
        for sub in self.subs.values():
            self._end(sub)
        self.subs.clear()

    def settle(self, sub: Subscription, head: Head | None = None) -> list[bytes]:
        """Put `sub` in line if the log is ahead of it, else it is live. Returns `live` for the first time.

        `head`: of its stream, if it was just asked for.
        """
        self.leave_pace()
        if head is None:
            head = self._log.head(sub.stream)
        if head.seq > sub.flow.sent:
            sub.state = _BEHIND[sub.state]
            self._ready[sub.stream] = sub
            return []
        sub.state = _AT_HEAD[sub.state]
        return [] if sub.told_live else self._live(sub, head)

    def part_sent(self, sub: Subscription) -> None:
        """A part of the snapshot was sent. More follow."""
        sub.state = TABLE[sub.state, Step.PART_SENT]

    def place(self, sub: Subscription, seq: int) -> list[bytes]:
        """The client holds a state after event `seq`: go on from there, as `settle`."""
        sub.flow = Flow(seq, sub.flow.peak)
        return self.settle(sub)

    def wake(self, stream: str) -> None:
        """The stream's head moved."""
        self.leave_pace()
        sub = self.subs.get(stream)
        if sub is not None:
            sub.state = state = _HEAD_MOVED[sub.state]
            if state is _READY:
                self._ready[stream] = sub

    def take(self, stream: str, first: int, count: int, now_s: float) -> bool:
        """Count `count` new events, from `first` on, as sent. The caller has their frame and writes it.

        False: another message must be sent first, or the window has no room for all of them. Nothing has
        changed then; call `wake`.
        """
        if self._pace is not None:
            self.leave_pace()
        sub = self.subs.get(stream)
        if sub is None or sub.state is not _LIVE or self._ready or self._pending:
            return False
        flow, window = sub.flow, self.window
        if flow.sent != first - 1:
            return False
        if not self.batched:
            window.skipped(flow, first - 1 + count)  # no ack is owed
        elif window.size - window.outstanding < count:
            return False
        else:
            window.sent(flow, first - 1 + count, now_s)
        return True

    def keep_pace(self, stream: str, pace: Pace, left: Callable[[], None]) -> bool:
        """From now on `pace` counts what is sent of `stream`, until `left` is called.

        False: the subscription is not ready for the event after `pace.sent`, or its window has not much room.
        """
        sub = self.subs.get(stream)
        if (
            sub is None or sub.state is not _LIVE or sub.flow.sent != pace.sent
            or self._ready or self._pending or self._pace is not None or not self.batched
            or not self._bounds(pace)
        ):  # fmt: skip
            return False
        self._pace, self._paced, self._left = pace, sub, left
        return True

    def bound_again(self) -> None:
        """Tell the pace how far the window has room now, or leave it if that is not much."""
        self.catch_up()
        if self._pace is not None and not self._bounds(self._pace):
            self.leave_pace()

    def _bounds(self, pace: Pace) -> bool:
        credit, size = self.window.credit, self.window.size
        if credit < max(LASTS_EVENTS, size // 2):
            return False
        pace.bound(pace.sent + credit)
        return True

    def joins(self, sub: Subscription) -> bool:
        """Whether `sub` can use joined bodies, because its events need not be looked at one by one.

        If that has changed when the page comes, it is read again as events: the reply to a command must be
        sent before the command's events, and joined bodies do not show which command caused them.
        """
        return self.batched and sub.stream != LOG_STREAM and not sub.apart and not self._pending

    def took(self, sub: Subscription, run: RunLike, now_s: float) -> list[bytes]:
        """Frames of the run that was read for `sub`, whose turn it is. Empty if `sub` has ended meanwhile."""
        self.leave_pace()
        if sub.state is not _TURN:
            if sub.state is DeliveryState.GONE:
                return []
            sub.state = TABLE[sub.state, Step.PAGE_CAME]
        flow = sub.flow
        assert run.after == flow.sent, "the run does not follow the cursor"
        frames: list[bytes] = []
        if run.skipped_to:
            frames.append(
                outgoing.message(
                    type="skipped",
                    stream=sub.stream,
                    seq=flow.sent + 1,
                    to=run.skipped_to,
                    reason="compacted",
                )
            )
            self.window.skipped(flow, run.skipped_to)
        elif run.joined is not None:
            frames += self._joined(sub, run.joined, now_s)
        elif run.events:
            sub.apart = False
            count = self._permitted(sub, run.events)
            if count:
                events = run.events if count == len(run.events) else run.events[:count]
                framed = self._frames.run(
                    sub.stream, flow.sent + 1, events, batch=self.batched, framer=self.framer
                )
                frames.append(framed.data)
                self._sent(flow, flow.sent + framed.count, now_s)
        if sub.state is _TURN:
            frames += self.settle(sub)
        return frames

    def may_ack(self, stream: str, seq: int) -> bool:
        """Whether events of `stream` up to `seq` were ever sent."""
        self.catch_up()
        sub = self.subs.get(stream)
        return seq <= (self._past.get(stream, -1) if sub is None else sub.flow.peak)

    def ack(self, stream: str, seq: int, now_s: float) -> bool:
        """The client processed `stream` up to `seq`. False: `seq` was never sent."""
        pace, paced = self._pace, self._paced
        if pace is not None and paced is not None and pace.sent > paced.flow.sent:  # as `catch_up`
            self.window.sent(paced.flow, pace.sent, pace.moved_s)
        sub = self.subs.get(stream)
        if sub is None:
            return seq <= self._past.get(stream, -1)
        if seq > sub.flow.peak:
            return False
        self.window.acked(sub.flow, seq, now_s)
        return True

    def lag(self, now_s: float, interval_s: float) -> bytes | None:
        """A `lag` message if the window is full and the log is ahead; at most one in `interval_s`."""
        if not self._ready or not self.batched or self.window.credit > 0:
            return None
        if self._lag_at_s is not None and now_s < self._lag_at_s + interval_s:
            return None
        sub = next(iter(self._ready.values()))
        behind = self._log.head(sub.stream).seq - sub.flow.sent
        if behind <= 0:
            return None
        self._lag_at_s = now_s
        return outgoing.message(type="lag", stream=sub.stream, behind=behind)

    def expect(self, cause: Cause) -> None:
        """A command of this connection runs: hold its events until `answered`."""
        self.leave_pace()
        self._pending[cause] = self._pending.get(cause, 0) + 1

    @property
    def running(self) -> Collection[Cause]:
        """The commands of this connection that are not answered yet."""
        return self._pending.keys()

    def answered(self, cause: Cause) -> None:
        """The reply is sent: its command's events may follow."""
        if self._pending[cause] > 1:
            self._pending[cause] -= 1
            return
        del self._pending[cause]
        for sub in self.subs.values():
            if sub.held_for == cause:
                sub.state = TABLE[sub.state, Step.REPLIED]
                sub.held_for = None
                self._ready[sub.stream] = sub

    def cursors(self) -> Mapping[str, int]:
        """The last seq sent, per stream."""
        self.catch_up()
        return {stream: sub.flow.sent for stream, sub in self.subs.items()}

    def _permitted(self, sub: Subscription, events: Sequence[StoredEvent]) -> int:
        """How many of `events` may be sent now. `sub` is held if a reply must be sent first."""
        count = min(len(events), self.window.credit) if self.batched else len(events)
        if self._pending:
            for index in range(count):
                cause = (events[index].principal, events[index].command_id)
                if cause in self._pending:
                    sub.state = TABLE[sub.state, Step.REPLY_AWAITED]
                    sub.held_for = cause
                    return index
        return count

    def _joined(self, sub: Subscription, joined: Joined, now_s: float) -> list[bytes]:
        """The frame of a joined page; none if the page cannot be sent as a whole."""
        if not self._pending and joined.count <= self.window.credit:
            framer = cast("Framer | None", self.framer)  # joined pages are for batched connections
            framed = self._frames.joined(sub.stream, joined, framer=framer)
            if framed is not None:
                self._sent(sub.flow, sub.flow.sent + framed.count, now_s)
                return [framed.data]
        sub.apart = True
        return []

    def _sent(self, flow: Flow, to: int, now_s: float) -> None:
        if self.batched:
            self.window.sent(flow, to, now_s)
        else:
            self.window.skipped(flow, to)  # no ack is owed

    def _live(self, sub: Subscription, head: Head) -> list[bytes]:
        sub.told_live = True
        check = None
        if self.batched and head.link and head.seq == sub.flow.sent:
            check = check_of(head.link)
        return [outgoing.message(type="live", stream=sub.stream, seq=sub.flow.sent, check=check)]
