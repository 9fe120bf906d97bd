"""PROTOCOL 3 and 10: liveness, goaway and close; and the machine's table of states."""

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
