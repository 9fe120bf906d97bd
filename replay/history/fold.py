"""Folds: pure functions from events to state. The domain supplies them, and replay runs them."""

from typing import Protocol

from huahuo.eventstore.model import StoredEvent


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
