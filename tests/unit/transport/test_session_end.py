"""PROTOCOL 3 and 10: liveness, goaway and close; and the machine's table of states."""

import pytest

from huahuo.transport.session.session import STATES, State, moved
from tests.support.drivers.session import Driver, types


def logged_in() -> Driver:
    driver = Driver()
    driver.login()
    driver.take()
    return driver


def test_a_session_that_is_gone_says_nothing() -> None:
    driver = logged_in()
    driver.session.gone()
    driver.session.gone()
    assert driver.session.closed
    assert types(driver.append("user/42", "unheard")) == []


# The table of states


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("what", sorted({what for moves in STATES.values() for what in moves}))
def test_an_illegal_move_raises_and_changes_nothing(state: State, what: str) -> None:
    if what in STATES[state]:
        assert moved(state, what) is STATES[state][what]
    else:
        with pytest.raises(AssertionError, match=f"{what} in state {state.value}"):
            moved(state, what)


def test_a_message_handed_in_before_the_verdict_is_the_shells_fault() -> None:
    driver = Driver()
    driver.session.received(b'{"action":"authenticate","token":"alice"}', driver.now)
    assert driver.session.busy
    with pytest.raises(AssertionError):
        driver.session.received(b'{"action":"heartbeat"}', driver.now)
