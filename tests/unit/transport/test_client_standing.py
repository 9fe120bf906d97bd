"""The state of a client's connection is told to its listeners. If there are none, it is logged once."""

import pytest

from huahuo.transport.client.client import Standing
from huahuo.transport.client.model import Offline, Status

REFUSED = Offline(None, "ConnectionRefusedError: refused", 0.5)


def standing() -> Standing:
    return Standing("ws://127.0.0.1:1/ws")


def test_only_the_first_failed_attempt_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    one = standing()
    for _ in range(3):
        one.tell(REFUSED)
    assert caplog.messages == [
        "ws://127.0.0.1:1/ws: not connected: ConnectionRefusedError: refused; trying again until it is"
    ]


def test_a_listener_is_told_instead_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    one, heard = standing(), list[Status]()
    one.listen(heard.append)
    one.tell(REFUSED)
    assert (heard, caplog.messages) == ([REFUSED], [])


def test_a_client_that_was_online_resumes_without_a_line(caplog: pytest.LogCaptureFixture) -> None:
    one = standing()
    one.change("online")
    one.tell(REFUSED)
    assert caplog.messages == []
