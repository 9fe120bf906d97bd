"""One subscription of a connection, and the commands whose events a reply must precede. Pure."""

from huahuo.transport.protocol.window import Flow
from huahuo.transport.session.delivery_states import START, DeliveryState

type Cause = tuple[str, str]
"""(principal, command id), as stored with the events that a command causes."""


class Subscription:
    """A cursor in one stream. A new position is a new object, so that reads for the old one are dropped.

    Three things are kept besides the state: two facts that outlast it, and what HELD waits for.
    """

    __slots__ = ("apart", "flow", "held_for", "state", "stream", "told_live")

    def __init__(self, stream: str, after: int, peak: int) -> None:
        self.stream = stream
        self.flow = Flow(after, peak)
        self.state: DeliveryState = START
        self.told_live = False
        self.apart = False  # a joined page could not be used: the next page comes as events
        self.held_for: Cause | None = None
