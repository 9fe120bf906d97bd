"""PROTOCOL 3 and 10: liveness, goaway and close; and the machine's table of states."""

import pytest

from huahuo.transport.protocol.codes import CLOSES, CloseCode
from huahuo.transport.session.interface import Close
from tests.support.drivers.session import Driver, note_command, types


def logged_in() -> Driver:
    driver = Driver()
    driver.login()
    driver.take()
    return driver


@pytest.mark.parametrize("short_ways", [True, False])
def test_an_ack_counts_as_being_heard_by_whichever_way_it_is_read(short_ways: bool) -> None:
    driver = logged_in()
    driver.short_ways = short_ways
    for seq in range(1, 6):
        driver.append("user/42", "x")
        driver.after(50, heard=False)
        driver.ack(user_42=seq)
    driver.append("system", "x")
    driver.append("user/42", "x")
    driver.after(50, heard=False)
    driver.ack(user_42=6, system=1)
    driver.after(50, heard=False)
    assert driver.closed is None


@pytest.mark.parametrize("code", [code for code in CloseCode if code >= 4000])
def test_goaway_comes_before_the_close_and_says_when_to_return(code: CloseCode) -> None:
    driver = logged_in()
    outputs = driver.session.close(code, "because")
    driver.carry_out(outputs)
    (goaway,) = driver.take()
    assert (goaway["type"], goaway["code"], goaway["reason"]) == ("goaway", code, "because")
    assert goaway.get("retry_s") == (list(CLOSES[code].retry_s) if CLOSES[code].retry_s else None)  # type: ignore[arg-type]
    assert outputs[-1] == Close(code, "because")


@pytest.mark.parametrize(
    ("leaving", "latest_s"), [(1, 1.5), (1_000, 1.5), (4_000, 6), (10_000, 15), (10**6, 15)]
)
@pytest.mark.parametrize("code", [CloseCode.DRAINING, CloseCode.RESTART])
def test_the_pause_after_a_drain_follows_how_many_leave(
    code: CloseCode, leaving: int, latest_s: float
) -> None:
    driver = logged_in()
    driver.leaving = leaving
    driver.carry_out(driver.session.close(code, "because"))
    assert driver.take()[-1]["retry_s"] == [0.5, latest_s]


def test_after_the_end_nothing_is_answered() -> None:
    driver = logged_in()
    driver.carry_out(driver.session.close(CloseCode.DRAINING, "bye"))
    driver.take()
    assert driver.say(action="heartbeat") == []
    assert driver.after(1000) == []
    assert driver.append("user/42", "unheard") == []
    assert driver.session.close(CloseCode.SILENT, "again") == []


def test_a_session_that_is_gone_says_nothing() -> None:
    driver = logged_in()
    driver.session.gone()
    driver.session.gone()
    assert driver.session.closed
    assert types(driver.append("user/42", "unheard")) == []


# The table of states


def test_a_verdict_that_comes_after_the_end_changes_nothing() -> None:
    driver = Driver()
    driver.session.received(b'{"action":"authenticate","token":"alice"}', driver.now)
    driver.session.close(CloseCode.DRAINING, "bye")
    assert driver.session.verdict(driver.verify("alice"), driver.now) == []
    assert driver.session.principal is None


def test_what_only_asks_is_needless_to_a_client_that_is_gone_once_it_had_signed_in() -> None:
    driver = Driver(commands=[note_command(), note_command("list", query=True)])
    assert not driver.session.needless(b'{"action":"list","id":"1"}'), (
        "it is refused, and the connection ends"
    )
    driver.login()
    assert driver.session.needless(b'{"action":"list","id":"1"}')
    assert not driver.session.needless(b'{"action":"note","id":"1"}')
