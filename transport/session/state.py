"""The states of a session and every transition between them. Pure. `session` says what the states mean."""

from collections.abc import Mapping
from enum import Enum


class State(Enum):
    """See `huahuo.transport.session.session`."""

    CONNECTED = "connected"
    VERIFYING = "verifying"
    OPEN = "open"
    REFRESHING = "refreshing"
    CLOSED = "closed"


STATES: Mapping[State, Mapping[str, State]] = {
    State.CONNECTED: {"authenticate": State.VERIFYING, "close": State.CLOSED},
    State.VERIFYING: {"accepted": State.OPEN, "close": State.CLOSED},
    State.OPEN: {"authenticate": State.REFRESHING, "close": State.CLOSED},
    State.REFRESHING: {"accepted": State.OPEN, "close": State.CLOSED},
    State.CLOSED: {"close": State.CLOSED},
}
"""State, input, next state. Any other input is a fault of the shell."""


def moved(state: State, what: str) -> State:
    """The state after `what`, by the table."""
    following = STATES[state].get(what)
    if following is None:
        raise AssertionError(f"{what} in state {state.value}")
    return following
