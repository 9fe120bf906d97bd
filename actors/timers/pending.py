"""What an entity has pending, computed from the events of its timers. Pure."""

from typing import Final

import msgspec
from msgspec.structs import replace

from huahuo.actors.timers.timer import (
    STREAMS,
    Timer,
    TimerFired,
    TimersCancelled,
    TimerSet,
    decode_event,
)
from huahuo.eventstore.model import StoredEvent

_decode: Final = msgspec.msgpack.Decoder(dict[str, Timer]).decode


class PendingTimers:
    """A `Fold` of `timer/<kind>/<key>`: the entity's pending timers by name."""

    name = "timers"
    fingerprint = "1"

    def initial(self, stream: str) -> dict[str, Timer]:
        """See `Fold`."""
        del stream
        return {}

    def evolve(self, state: dict[str, Timer], event: StoredEvent) -> dict[str, Timer]:
        """See `Fold`. The same object comes back."""
        match decode_event(event.body):
            case TimerSet() as begun:
                state[begun.name] = begun.timer(event.stream.removeprefix(STREAMS), event.seq)
            case TimerFired(name=name, next_ms=next_ms):
                timer = state.pop(name, None)
                if timer is not None and next_ms:
                    state[name] = replace(timer, due_ms=next_ms, seq=event.seq)
            case TimersCancelled(names=names):
                for name in names:
                    state.pop(name, None)
        return state

    def dump(self, state: dict[str, Timer]) -> bytes:
        """See `Fold`."""
        return msgspec.msgpack.encode(state)

    def load(self, stream: str, data: bytes) -> dict[str, Timer]:
        """See `Fold`."""
        del stream
        return _decode(data)
