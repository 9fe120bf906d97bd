"""The part of a delivery that keeps the pace of others: what was sent is counted in `Pace`, for all at once.

Everything that moves a subscription or uses the window calls `leave_pace` or `catch_up` first. Pure.
"""

from collections.abc import Callable

from huahuo.transport.protocol.window import Window
from huahuo.transport.session.pace import Pace
from huahuo.transport.session.subscription import Subscription


class PaceKeeper:
    """See the module. `Delivery` decides who may keep a pace, and sets the three fields together."""

    __slots__ = ("_left", "_pace", "_paced", "window")

    def __init__(self, window: int) -> None:
        self._pace: Pace | None = None
        self._paced: Subscription | None = None  # the one that keeps it
        self._left: Callable[[], None] | None = None
        self.window = Window(window)

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
