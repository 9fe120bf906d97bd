"""What can be viewed through time.

An entity with the streams that determine its state, and the folds that compute it.

Folds are pure functions from events to state. The domain supplies them and its own subjects, and replay
runs them. `RecentSubject` shows any stream that has no fold of its own.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from huahuo.eventstore.model import LOG_STREAM, StoredEvent


class Fold[S](Protocol):
    """Computes one kind of state from one stream's events.

    Invariant: `evolve` is pure. The same events always give the same state, also in newer code.
    """

    @property
    def name(self) -> str:
        """Name of the fold, unique among folds over the same stream, e.g. `roster`."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when `evolve` or the state's form changes, so that older keyframes are ignored."""
        ...

    def initial(self, stream: str) -> S:
        """The state before the first event."""
        ...

    def evolve(self, state: S, event: StoredEvent) -> S:
        """The state after `event`. It may update `state` in place and return it."""
        ...

    def dump(self, state: S) -> bytes:
        """The state as bytes, for a keyframe."""
        ...

    def load(self, stream: str, data: bytes) -> S:
        """The state from the bytes of `dump`. Raises ValueError if they are not readable."""
        ...


class NotFolded(Exception):  # noqa: N818  a fact about the history and today's code
    """An event that a fold cannot take. `place` is its stream and seq."""

    def __init__(self, event: StoredEvent, error: Exception) -> None:
        self.place = f"{event.stream}#{event.seq}"
        super().__init__(
            f"today's code cannot fold {self.place} (@{event.position}, {event.type}):"
            f" {type(error).__name__}: {error}"
        )


RECENT_EVENTS_MAX: Final = 50


class Part(msgspec.Struct, frozen=True):
    """One stream of a subject and how it is folded.

    `selective`: the shown part of this fold depends only on events that concern the subject, so the others
    need not be folded. `window`: only this many of the newest events are folded (0: all).
    """

    stream: str
    fold: Fold[Any]
    selective: bool = False
    window: int = 0


class Subject(Protocol):
    """An entity as the debugger shows it: one state in JSON form, from one or more folds."""

    @property
    def entity(self) -> str:
        """Its name: `mailbox/17`."""
        ...

    @property
    def stream(self) -> str:
        """The stream to which a plain seq refers."""
        ...

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of which its state is made. Two parts may share a stream."""
        ...

    @property
    def rising(self) -> frozenset[str]:
        """Paths of the shown state whose values never decrease over time."""
        ...

    def concerns(self, event: StoredEvent) -> bool:
        """Whether `event`, from a stream of one of the parts, is about this entity."""
        ...

    def show(self, states: Sequence[Any]) -> dict[str, Any]:
        """The state in JSON form, from the parts' states. It must not change afterwards."""
        ...

    def glimpse(self, states: Sequence[Any], event: StoredEvent) -> dict[str, Any]:
        """As `show`, but only what `event` can change is required: enough for a difference."""
        ...


class Recent(msgspec.Struct):
    """The newest events of `stream`, and how many it has had."""

    stream: str
    count: int = 0
    recent: list[dict[str, Any]] = msgspec.field(default_factory=list)


class RecentFold:
    """The newest events of any stream."""

    name: Final = "recent"
    fingerprint: Final = "recent-1"

    def initial(self, stream: str) -> Recent:
        """See `Fold`."""
        return Recent(stream)

    def evolve(self, state: Recent, event: StoredEvent) -> Recent:
        """See `Fold`."""
        state.count = event.position if state.stream == LOG_STREAM else event.seq
        state.recent.append(
            {"stream": event.stream, "seq": event.seq} | msgspec.json.decode(event.body, type=dict[str, Any])
        )
        del state.recent[:-RECENT_EVENTS_MAX]
        return state

    def dump(self, state: Recent) -> bytes:
        """See `Fold`."""
        return msgspec.msgpack.encode(state)

    def load(self, stream: str, data: bytes) -> Recent:
        """See `Fold`."""
        del stream
        return msgspec.msgpack.decode(data, type=Recent)


class RecentSubject:
    """A stream as a count and its newest events."""

    rising: Final = frozenset({"count"})

    def __init__(self, stream: str) -> None:
        self.entity = self.stream = stream
        self.parts = (Part(stream, RecentFold(), window=RECENT_EVENTS_MAX),)

    def concerns(self, event: StoredEvent) -> bool:
        """See `Subject`."""
        del event
        return True

    def show(self, states: Sequence[Any]) -> dict[str, Any]:
        """See `Subject`."""
        state: Recent = states[0]
        return {"count": state.count, "recent": list(state.recent)}

    def glimpse(self, states: Sequence[Any], event: StoredEvent) -> dict[str, Any]:
        """See `Subject`. The count, and the event itself once it is folded in."""
        state: Recent = states[0]
        newest = {str(e["seq"]): e for e in state.recent[-1:] if e["seq"] == event.seq}
        return {"count": state.count, "recent": newest}


class FoldSubject:
    """Any stream with one fold, its state shown field by field."""

    rising: Final = frozenset[str]()

    def __init__(self, stream: str, fold: Fold[Any]) -> None:
        self.entity = self.stream = stream
        self.parts = (Part(stream, fold),)

    def concerns(self, event: StoredEvent) -> bool:
        """See `Subject`."""
        del event
        return True

    def show(self, states: Sequence[Any]) -> dict[str, Any]:
        """See `Subject`."""
        shown = msgspec.to_builtins(states[0])
        return shown if isinstance(shown, dict) else {"state": shown}

    def glimpse(self, states: Sequence[Any], event: StoredEvent) -> dict[str, Any]:
        """See `Subject`."""
        del event
        return self.show(states)
