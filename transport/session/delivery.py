"""The events that one connection must still be sent (PROTOCOL 4, 5). Pure.

A subscription is a cursor with a state, and `delivery_states.TABLE` lists how the state may change
(docs/delivery.md). READY ones take turns (`queues`). A subscription gets no turn while it waits for a
snapshot, for a page from the store, or for the reply to a command of this connection whose event is next: a
reply is sent before all events that its command caused.

`next_read` gives the subscription whose turn it is; `took` makes frames of the events that were read for it.
When events come, a subscription is nearly always LIVE: `take` is the short way for that case. If it stays
so, it may keep the pace of others (`pace`): then what was sent is counted there, for all of them at once,
until `leave_pace`. Everything that moves a subscription or uses the window does that first.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from huahuo.eventstore.core.chain import check_of
from huahuo.eventstore.model import LOG_STREAM, Head, Joined, StoredEvent
from huahuo.transport.protocol.frames import EventTexts, FrameCache, Framer, kind_of
from huahuo.transport.protocol.window import Flow
from huahuo.transport.session import outgoing
from huahuo.transport.session.delivery_states import TABLE, DeliveryState, Step
from huahuo.transport.session.pace import LASTS_EVENTS, Pace
from huahuo.transport.session.ports import LogView, RunLike
from huahuo.transport.session.queues import Queues
from huahuo.transport.session.subscription import Cause, Subscription

# Read or taken for each delivery or run:
_LIVE: Final = DeliveryState.LIVE
_READY: Final = DeliveryState.READY
_TURN: Final = DeliveryState.TURN
_HEAD_MOVED: Final = TABLE.column(Step.HEAD_MOVED)
_AT_HEAD: Final = TABLE.column(Step.AT_HEAD)
_BEHIND: Final = TABLE.column(Step.BEHIND)


class Delivery(Queues):
    """See the module. `framer` makes frames of runs; None: text frames."""

    __slots__ = (
        "_frames", "_lag_at_s", "_log", "_past", "_past_max", "_pending", "framer", "kind", "subs",
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
        super().__init__(batched=batched, window=window)
        self._log = log
        self._frames = frames
        self.framer = framer
        self.kind = kind_of(batch=batched, framer=framer)
        self._past_max = past_max
        self._past: dict[str, int] = {}
        self._pending: dict[Cause, int] = {}
        self._lag_at_s: float | None = None
        self.subs: dict[str, Subscription] = {}

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
