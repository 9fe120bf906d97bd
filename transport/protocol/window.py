"""What was sent and not yet acked (PROTOCOL 5). Pure.

A `Flow` is one subscription's share: `floor` and everything before it is processed or was never
sent as an event, `sent` is where the reader stands. Ranges that were accounted for without an event
(`skipped`) are holes: a reader owes no ack for them.

    floor        hole        sent            outstanding = sent - floor - holes
      |....events....[------]...|
"""


class Flow:
    """The un-acked events of one subscription."""

    __slots__ = ("floor", "holes", "peak", "sent")

    def __init__(self, after: int, peak: int = 0) -> None:
        """Stand at `after`. `peak` is the highest seq of this stream handed out before."""
        self.floor = after
        self.sent = after
        self.peak = max(after, peak)
        self.holes: tuple[tuple[int, int], ...] = ()

    @property
    def outstanding(self) -> int:
        """How many events were sent and not acked."""
        if not self.holes:  # as good as always, and asked for at every ack
            return self.sent - self.floor
        return self.sent - self.floor - sum(to - after for after, to in self.holes)


class Window:
    """All flows of one connection: at most `size` events may be outstanding.

    `waiting_since_s` is the moment of the last ack that released something, or of the first un-acked
    event after none was outstanding; None while nothing is.
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
        """The reader was moved to `to` without events: acking it is legal, but not owed."""
        if flow.outstanding == 0:
            flow.floor = to
            flow.holes = ()
        else:
            flow.holes = (*flow.holes, (flow.sent, to))
        flow.sent = to
        flow.peak = max(flow.peak, to)

    def acked(self, flow: Flow, seq: int, now_s: float) -> None:
        """Everything up to `seq` is processed. The caller has compared `seq` with `flow.peak`.

        After a subscription moved back, an ack of what was sent before it counts as far as it fits.
        """
        if seq <= flow.floor:
            return  # says nothing new: who stands still while it repeats itself is too slow all the same
        before = flow.outstanding
        flow.floor = floor = min(seq, flow.sent)
        if flow.holes:
            flow.holes = tuple((max(after, floor), to) for after, to in flow.holes if to > floor)
        after_it = flow.outstanding
        self.outstanding += after_it - before
        if not self.outstanding:
            self.waiting_since_s = None
        elif after_it < before:
            self.waiting_since_s = now_s

    def dropped(self, flow: Flow) -> None:
        """The subscription ended: nothing is owed for it any more."""
        self.outstanding -= flow.outstanding
        if not self.outstanding:
            self.waiting_since_s = None
