"""Subscriptions whose readers an application judges, while a verdict is awaited (PROTOCOL 3.1, 12). Pure.

A verdict may need an entity that must be loaded first. A subscription that waits for one is either not begun
(`pending`), or it was begun, something changed that may end the right to read, and no event is sent until the
verdict is there (`held`).
"""

from collections.abc import Callable, Mapping

import msgspec

from huahuo.actors.plugins.principal import Principal
from huahuo.transport.access.rights import Judged, may_read
from huahuo.transport.protocol.place import Outcome, Place
from huahuo.transport.session.delivery import Delivery
from huahuo.transport.session.delivery_states import DeliveryState
from huahuo.transport.session.outputs import Output, TakeSnapshot
from huahuo.transport.session.subscription import Subscription

type Verdicts = Mapping[str, bool | None]
"""By stream: whether the user may read it, None if that is not known yet."""

type Begin = Callable[[], list[Output]]
"""Begins a subscription whose verdict came late, and announces it."""

PENDING = Place(Outcome.PENDING, 0)
DENIED = Place(Outcome.DENIED, 0)


class _Held(msgspec.Struct, frozen=True):
    """A begun subscription. `wants_snapshot`: it waited for one, which is taken again."""

    sub: Subscription
    wants_snapshot: bool


class Judging:
    """The streams of one session for which a verdict is awaited. `judged`: those that are judged at all."""

    __slots__ = ("_delivery", "_held", "_judged", "_pending")

    def __init__(self, judged: Judged, delivery: Delivery) -> None:
        self._judged = judged
        self._delivery = delivery
        self._pending: dict[str, Begin] = {}
        self._held: dict[str, _Held] = {}

    def asks(self, principal: Principal, stream: str) -> bool:
        """Whether the right to read `stream` is for the application to judge."""
        return self._judged.asks(principal, stream)

    def by_rule(self, principal: Principal, stream: str) -> bool | None:
        """Whether `principal` may read `stream`, None if that is for the application to judge."""
        return None if self._judged.asks(principal, stream) else may_read(principal, stream)

    def readable(self, principal: Principal, stream: str, verdicts: Verdicts) -> bool | None:
        """Whether `principal` may read `stream`, None if that is not known yet."""
        if self.asks(principal, stream):
            return verdicts.get(stream, False)
        return may_read(principal, stream)

    def subscribed(self, principal: Principal) -> tuple[str, ...]:
        """The streams of the present subscriptions that must be judged for another token."""
        return tuple(stream for stream in self._delivery.subs if self.asks(principal, stream))

    def pend(self, stream: str, begin: Begin) -> None:
        """Remember how to begin a subscription when its verdict comes. A newer request replaces it."""
        self._pending[stream] = begin

    def forget(self, stream: str) -> bool:
        """The client wants it no longer, or asks anew. True if it was pending."""
        self._held.pop(stream, None)
        return self._pending.pop(stream, None) is not None

    def hold(self, stream: str) -> bool:
        """Send nothing more of `stream` until its verdict. False: it is not subscribed."""
        self._delivery.leave_pace()
        sub = self._delivery.subs.get(stream)
        if sub is None:
            return False
        held = self._held.get(stream)
        waits = sub.state is DeliveryState.SNAPSHOT
        again = self._delivery.add(stream, sub.flow.sent, waiting=True)
        again.told_live = sub.told_live
        waited = waits if held is None or held.sub is not sub else held.wants_snapshot
        self._held[stream] = _Held(again, waited)
        return True

    def allow(self, stream: str) -> list[Output]:
        """The verdict is that the user may read: begin what was pending, go on with what was held."""
        begin = self._pending.pop(stream, None)
        if begin is not None:
            return begin()
        held = self._held.pop(stream, None)
        if held is None or self._delivery.subs.get(stream) is not held.sub:
            return []
        if held.wants_snapshot:
            return [TakeSnapshot(held.sub)]
        return [*self._delivery.settle(held.sub)]
