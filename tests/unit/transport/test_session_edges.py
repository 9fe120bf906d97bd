"""What a session says where a client asks for it wrongly, or in another language."""

import pytest

from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.session.interface import Close
from huahuo.transport.words import en, zh
from tests.support.drivers.session import Driver, types


def test_a_client_is_spoken_to_in_the_language_that_it_names_as_it_signs_in() -> None:
    driver = Driver()
    driver.login(language="en")
    driver.take()
    [error] = driver.say(action="nonsense")
    assert error["message"].startswith("this service has no such action")


@pytest.mark.parametrize(
    ("asked", "details", "reason"),
    [
        ({"language": "zh"}, zh.MISSING, zh.RESTARTS),
        ({"language": "en"}, en.MISSING, en.RESTARTS),
        ({}, en.MISSING, en.RESTARTS),
    ],
)
def test_details_and_reasons_come_in_the_language_that_a_client_asks_for(
    asked: dict[str, str], details: str, reason: str
) -> None:
    driver = Driver()
    driver.login(**asked)
    driver.take()
    [error] = driver.say(action="subscribe", id="s")
    assert error["details"] == f"stream: {details}"
    outputs = driver.session.close(CloseCode.DRAINING, en.RESTARTS)
    driver.carry_out(outputs)
    assert driver.take()[-1]["reason"] == reason
    assert outputs[-1] == Close(CloseCode.DRAINING, en.RESTARTS)


@pytest.mark.parametrize("fields", [{}, {"stream": ""}, {"stream": 7}])
def test_an_unsubscribe_without_a_stream_is_refused_by_the_field(fields: dict[str, object]) -> None:
    driver = Driver()
    driver.login()
    driver.take()
    [error] = driver.say(action="unsubscribe", id="u", **fields)
    assert (error["code"], error["id"]) == ("invalid_field", "u")
    assert "stream" in error["details"]


def test_an_unsubscribe_of_what_is_not_followed_is_answered() -> None:
    driver = Driver()
    driver.login()
    driver.take()
    assert types(driver.say(action="unsubscribe", id="u", stream="group/ops")) == ["unsubscribed"]


def test_a_session_that_has_heard_something_says_when() -> None:
    driver = Driver()
    driver.login()
    driver.after(5.0, heard=False)
    before_s = driver.session.liveness.heard_s
    driver.say(action="heartbeat", id="h")
    assert driver.session.liveness.heard_s > before_s
