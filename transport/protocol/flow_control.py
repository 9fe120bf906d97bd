"""The limits of the wire with their defaults (PROTOCOL 3, 5, 6), a token bucket, and the window. Pure.

The time is an argument. The window has the events that were sent and not yet acked (PROTOCOL 5). A `Flow`
is one subscription's share. Everything up to `floor` was processed, or never sent as an event. `sent` is
the last seq sent or skipped. Ranges that were skipped are holes: no event was sent, so no ack is owed.

    floor        hole        sent            outstanding = sent - floor - holes
      |....events....[------]...|
"""

from typing import Literal

import msgspec

UNAUTHENTICATED_MAX = 12_288
"""Sockets whose client has not authenticated. The loop may accept all that the kernel holds (4,096) twice
before it reads the first bytes of any."""


class TransportSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds that the transport keeps. Units are in the names.

    0 means no limit for `messages_per_s` and `unauthenticated_per_address`. A classic client (no subprotocol)
    is sent `heartbeat` every `heartbeat_s` and may be silent for three of them, a v1 client for two.
    """

    origins: tuple[str, ...] = ()
    message_bytes_max: int = 1 << 20
    unauthenticated_bytes_max: int = 64 << 10
    json_depth_max: int = 32
    messages_per_s: int = 100
    subscriptions_max: int = 256
    commands_outstanding_max: int = 64
    window: int = 512
    window_max: int = 4096
    heartbeat_s: float = 30.0
    auth_timeout_s: float = 10.0
    ack_timeout_s: float = 60.0
    token_warning_s: float = 60.0
    lag_interval_s: float = 1.0
    open_timeout_s: float = 10.0
    close_timeout_s: float = 2.0
    drain_timeout_s: float = 10.0
    frame_bytes_max: int = 256 << 10
    frame_events_max: int = 256
    page_events_max: int = 1024
    reply_bytes_max: int = 16 << 20
    part_bytes_max: int = 512 << 10
    write_buffer_bytes_max: int = 256 << 10
    classic_buffer_bytes_max: int = 1 << 20
    frame_cache_bytes_max: int = 32 << 20
    unsent_bytes_max: int = 128 << 20
    unsent_bytes_per_user: int = 32 << 20
    unsent_bytes_per_connection: int = 20 << 20
    unsent_stuck_s: float = 10.0
    unauthenticated_max: int = UNAUTHENTICATED_MAX
    unauthenticated_per_address: int = 256
    lobby_bytes_max: int = 32 << 20
    intake_bytes_max: int = 64 << 20
    sends: Literal["auto", "send", "transport"] = "auto"

    @property
    def messages_burst(self) -> int:
        """At most this many messages may come at once."""
        return 2 * self.messages_per_s

    @property
    def first_bytes_max(self) -> int:
        """The largest message of a client that has not authenticated."""
        return min(self.unauthenticated_bytes_max, self.message_bytes_max)


_ROUNDING = 1e-6
"""Tolerance in tokens, so that `take` succeeds at the time that `next_at_s` or `wait_s` returned."""


class TokenBucket:
    """`burst` at once, `rate` a second on average (0: no limit). A clock that goes back is ignored."""

    __slots__ = ("_at_s", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    def take(self, now_s: float, count: float = 1.0) -> bool:
        """Take `count` tokens, or none if there are fewer."""
        if self._rate <= 0:
            return True
        self._fill(now_s)
        if self._level < count - _ROUNDING:
            return False
        self._level -= count
        return True

    def charge(self, now_s: float, count: float) -> None:
        """Take `count` tokens that were given out elsewhere, also if there are fewer: they are owed."""
        self._fill(now_s)
        self._level -= count

    def wait_s(self, now_s: float, count: float = 1.0) -> float:
        """Seconds until `take` would succeed if no tokens are taken before; 0 if it would now."""
        if self._rate <= 0:
            return 0.0
        self._fill(now_s)
        return max(0.0, (count - self._level) / self._rate)

    def next_at_s(self) -> float:
        """The time from which `take` succeeds, by the last call of it."""
        return self._at_s + (1.0 - self._level) / self._rate if self._rate > 0 else 0.0

    def _fill(self, now_s: float) -> None:
        if now_s > self._at_s:
            self._level = min(self._burst, self._level + (now_s - self._at_s) * self._rate)
            self._at_s = now_s


class Flow:
    """The un-acked events of one subscription."""

    __slots__ = ("floor", "holes", "peak", "sent")

    def __init__(self, after: int, peak: int = 0) -> None:
        """Begin after seq `after`. `peak` is the highest seq of this stream that was sent before."""
        self.floor = after
        self.sent = after
        self.peak = max(after, peak)
        self.holes: tuple[tuple[int, int], ...] = ()

    @property
    def outstanding(self) -> int:
        """How many events were sent and not acked."""
        if not self.holes:  # the usual case, computed at every ack
            return self.sent - self.floor
        return self.sent - self.floor - sum(to - after for after, to in self.holes)


class Window:
    """All flows of one connection: at most `size` events may be outstanding.

    `waiting_since_s` is the time of the last ack that released an event, or of the first event sent when none
    was outstanding. It is None while no event is outstanding.
    """

    __slots__ = ("outstanding", "size", "waiting_since_s")

    def __init__(self, size: int) -> None:
        self.size = size
        self.outstanding = 0
        self.waiting_since_s: float | None = None

    @property
    def credit(self) -> int:
        """How many more events may be sent now."""
        return self.size - self.outstanding

    def sent(self, flow: Flow, to: int, now_s: float) -> None:
        """The events up to `to` were sent."""
        if self.waiting_since_s is None:
            self.waiting_since_s = now_s
        self.outstanding += to - flow.sent
        flow.sent = to
        flow.peak = max(flow.peak, to)

    def skipped(self, flow: Flow, to: int) -> None:
        """The reader moved to `to` without events: an ack up to `to` is legal, but not owed."""
        if flow.outstanding == 0:
            flow.floor = to
            flow.holes = ()
        else:
            flow.holes = (*flow.holes, (flow.sent, to))
        flow.sent = to
        flow.peak = max(flow.peak, to)

    def acked(self, flow: Flow, seq: int, now_s: float) -> None:
        """Everything up to `seq` is processed. The caller has compared `seq` with `flow.peak`.

        After a subscription moved back, an ack of events from before the move counts up to `sent`.
        """
        if seq <= flow.floor:
            return  # A repeated ack is not progress, so it does not reset the timeout.
        floor = min(flow.sent, seq)
        if not flow.holes:  # the usual case
            released = floor - flow.floor
            flow.floor = floor
        else:
            before = flow.outstanding
            flow.floor = floor
            flow.holes = tuple((max(after, floor), to) for after, to in flow.holes if to > floor)
            released = before - flow.outstanding
        self.outstanding -= released
        if not self.outstanding:
            self.waiting_since_s = None
        elif released:
            self.waiting_since_s = now_s

    def dropped(self, flow: Flow) -> None:
        """The subscription ended: no ack is owed for it."""
        self.outstanding -= flow.outstanding
        if not self.outstanding:
            self.waiting_since_s = None
