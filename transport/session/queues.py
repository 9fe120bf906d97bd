"""The queues of a delivery: subscriptions whose turn comes, those to fetch, and those to try again.

READY subscriptions take turns, one run each, so that a busy stream starves no other. Pure.
"""

from typing import Final

from huahuo.transport.session.delivery_states import TABLE, DeliveryState, Step
from huahuo.transport.session.pace_keeper import PaceKeeper
from huahuo.transport.session.subscription import Subscription

_TURN_CAME: Final = TABLE.column(Step.TURN_CAME)


class Queues(PaceKeeper):
    """See the module. `Delivery` decides when a subscription comes into a queue.

    The window bounds a `batched` connection. For others the write buffer is the only bound, and an ack only
    tells what was processed.
    """

    __slots__ = ("_failed", "_ready", "batched", "parked")

    def __init__(self, *, batched: bool, window: int) -> None:
        super().__init__(window)
        self.batched = batched
        self._ready: dict[str, Subscription] = {}
        self._failed: list[Subscription] = []
        self.parked: list[Subscription] = []
        """Subscriptions in state PARKED, first parked first."""

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
