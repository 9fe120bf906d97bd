"""What one decision and one state may hold, and the state after a decision within it. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from huahuo.actors.domain import en
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.errors import Fault, place_of
from huahuo.actors.domain.fold import MEASURED_BYTES, EntityFold, Held
from huahuo.actors.domain.row_facts import OverBound
from huahuo.actors.domain.structs import Event


class Bounds(Struct, frozen=True):
    """What one decision and one state may hold."""

    decision_events_max: int = 5_000
    state_bytes_max: int = 15 << 20
    """Below the 16 MiB of a snapshot's frame."""
    effect_bytes_max: int = 64 << 10


DEFAULTS: Final = Bounds()


class BoundedFold(EntityFold):
    """A fold whose states are at most `state_bytes_max` long after each decision.

    A state is encoded to know its size, so a large one is encoded only if the events may have made it too
    large.
    """

    def __init__(self, entity: Entity[Any], bounds: Bounds) -> None:
        super().__init__(entity)
        self._bounds = bounds

    def ahead(self, state: Held, events: Sequence[Event], event_bytes: int) -> Any:
        """The state after the decision. Raises OverBound: it is too large after some of the events."""
        after = state.state
        if state.size + event_bytes > self._bounds.state_bytes_max:
            after = self._measured(state, events)
        else:
            for event in events:
                after = self.after(after, event)
        if not isinstance(after, self.entity.state):
            what, handler = type(after).__name__, self.entity.evolves[type(events[-1])]
            raise Fault(f"{place_of(handler)}: {handler.__name__} returns {what}: return the new state")
        return after

    def _measured(self, state: Held, events: Sequence[Event]) -> Any:
        """As `ahead`, for events that may make the state too large: a large state costs time to copy."""
        after, grown = state.state, state.size
        for event in events:
            after = self.after(after, event)
            grown += len(self._encode(event))
            if grown > self._bounds.state_bytes_max:
                grown = len(self._encode(after))
                if grown > self._bounds.state_bytes_max:
                    raise OverBound(self.said())
        return after

    def said(self) -> str:
        """Why a state that is too large is refused."""
        return en.STATE_TOO_LARGE.format(self._bounds.state_bytes_max)

    def over(self, state: Held, after: Any, event_bytes: int) -> bool:
        """Whether a state exceeds its bound. A large state is measured only when it may have grown much."""
        guessed = state.size + 2 * (state.since + event_bytes)
        if state.size > MEASURED_BYTES and guessed < self._bounds.state_bytes_max // 2:
            return False
        return len(self.pack(after)) > self._bounds.state_bytes_max
