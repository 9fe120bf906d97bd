"""One position for many subscriptions that get every event of a stream together. Pure.

While subscriptions of different connections are at the same event, and each is ready for the next one, what
was sent to them is counted once, here. A connection counts it for itself only when it is looked at: at an
ack, at a tick, or when it goes another way than the others (`Delivery.catch_up`, `Delivery.leave_pace`).
"""

from typing import Final

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
