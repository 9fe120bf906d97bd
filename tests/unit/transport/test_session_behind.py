"""A client that has seen more than this node of several: it is waited for, and never reset by mistake."""

import pytest

from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.session import Driver, ModelLog

OWN = "user/42"
RESUME = {"log": "log-1", "cursors": {OWN: 3}}


def grow(log: ModelLog, count: int) -> None:
    for _ in range(count):
        log.append_body(OWN, {"type": "noted"})


def test_a_client_ahead_of_this_node_resumes_once_the_node_has_caught_up() -> None:
    log = ModelLog()
    grow(log, 1)

    def catch_up() -> bool:
        grow(log, 2)
        return True

    driver = Driver(log, catch_up=catch_up)
    assert driver.login(resume=RESUME)["streams"][OWN]["outcome"] == "resumed"


def test_a_client_ahead_of_the_log_itself_is_reset() -> None:
    log = ModelLog()
    grow(log, 1)
    driver = Driver(log, catch_up=lambda: True)
    assert driver.login(resume=RESUME)["streams"][OWN]["outcome"] == "reset"


def test_a_client_is_sent_elsewhere_if_the_node_cannot_find_out() -> None:
    log = ModelLog()
    grow(log, 1)
    driver = Driver(log, catch_up=lambda: False)
    driver.say(action="authenticate", token="alice", resume=RESUME)
    assert driver.closed is not None
    assert driver.closed.code == CloseCode.DRAINING
    assert "reset" not in str(driver.take())


def test_the_same_holds_for_a_subscribe() -> None:
    log = ModelLog()
    grow(log, 1)
    driver = Driver(log, catch_up=lambda: False)
    driver.login()
    driver.say(action="subscribe", stream="group/ops", after=9, log="log-1")
    assert driver.closed is not None
    assert driver.closed.code == CloseCode.DRAINING


def test_a_service_alone_waits_for_nothing() -> None:
    log = ModelLog()
    grow(log, 1)
    driver = Driver(log)
    assert driver.login(resume=RESUME)["streams"][OWN]["outcome"] == "reset"
    assert (OWN, 3) not in driver.lookups


@pytest.mark.parametrize("log_id", ["log-2", ""])
def test_a_cursor_of_another_log_is_not_waited_for(log_id: str) -> None:
    driver = Driver(ModelLog(), catch_up=lambda: False)
    resume = {"log": log_id, "cursors": {OWN: 3}}
    assert driver.login(resume=resume)["streams"][OWN]["outcome"] == "reset"
