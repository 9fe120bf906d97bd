"""The window: events that were sent and not yet acked (PROTOCOL 5). Pure.

A `Flow` is one subscription's share. Everything up to `floor` was processed, or never sent as an event.
`sent` is the last seq sent or skipped. Ranges that were skipped are holes: no event was sent, so no ack is
owed.

    floor        hole        sent            outstanding = sent - floor - holes
      |....events....[------]...|
"""


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
