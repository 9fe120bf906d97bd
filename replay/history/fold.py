"""Folds: pure functions from events to state. The domain brings them; replay runs them."""

from typing import Protocol

from huahuo.eventstore.model import StoredEvent


class Fold[S](Protocol):
    """How one kind of state follows from one stream's events.

    Invariant: `evolve` is pure; the same events give the same state, always, also in newer code.
    """

    @property
    def name(self) -> str:
        """Names the fold among others over the same stream, e.g. `roster`."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when `evolve` or the state's form changes: older keyframes are then ignored."""
        ...

    def initial(self, stream: str) -> S:
        """The state before the first event."""
        ...

    def evolve(self, state: S, event: StoredEvent) -> S:
        """The state after `event`; may update `state` in place and return it."""
        ...

    def dump(self, state: S) -> bytes:
        """The state as bytes, for a keyframe."""
        ...

    def load(self, stream: str, data: bytes) -> S:
        """The state from `dump`'s bytes. Raises ValueError if they are not readable."""
        ...
