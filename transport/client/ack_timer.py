"""When a client sends its acks and stores its cursors. Pure: the time is an argument."""

ACK_AFTER_S = 0.25
"""An ack is sent this long after the first event it covers, or at half a window of events."""
SAVE_EVERY_S = 0.25
"""The least time between two writes of the cursor store, however fast events come."""


class AckTimer:
    """Two deadlines, None while nothing is due: `ack_at` for the next ack, `save_at` for the cursors."""

    __slots__ = ("_saved_at", "_unacked", "ack_at", "save_at")

    def __init__(self) -> None:
        self.ack_at: float | None = None
        self.save_at: float | None = None
        self._saved_at = 0.0
        self._unacked = 0

    def count(self, events: int) -> None:
        """Count processed events that no ack covers yet."""
        self._unacked += events

    def forget(self) -> None:
        """A new connection begins without unacked events."""
        self._unacked = 0

    def ack_soon(self, window: int, now: float) -> bool:
        """Something can be acked. Returns whether the deadline moved."""
        before = self.ack_at
        if self._unacked >= max(1, window // 2):
            self.ack_at = now
        elif before is None:
            self.ack_at = now + ACK_AFTER_S
        return self.ack_at != before

    def ack_due(self, now: float) -> bool:
        """Whether the ack must be sent."""
        return self.ack_at is not None and self.ack_at <= now

    def acked(self, now: float) -> None:
        """The ack is sent, or cannot be sent now; its cursors are to be stored."""
        self.ack_at, self._unacked = None, 0
        self.save_soon(now)

    def save_soon(self, now: float) -> None:
        """Cursors are to be stored."""
        self.save_at = max(now, self._saved_at + SAVE_EVERY_S)

    def save_due(self, now: float) -> bool:
        """Whether cursors must be stored; if so, they count as stored now."""
        if self.save_at is None or self.save_at > now:
            return False
        self._saved_at = now
        return True
