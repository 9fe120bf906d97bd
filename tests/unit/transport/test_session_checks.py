"""Checks: a client is told that it saw other events than the log holds if, and only if, that is so."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.protocol.dialects import DOCUMENT
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.session.interface import Alarm
from tests.support.drivers.session import Driver, ModelLog

OWN = "user/42"


def linked(count: int, stream: str = OWN, *, history: int = 1, log: ModelLog | None = None) -> ModelLog:
    """A log whose event n of `stream` has the link `history`, n, n, … ."""
    log = log or ModelLog()
    for n in range(1, count + 1):
        log.append_body(stream, {"type": "noted"}, link=bytes([history]) + bytes([n]) * 31)
    return log


def check(seq: int, history: int = 1) -> str:
    return f"{history:02x}" + f"{seq:02x}" * 7


class Returned(Driver):
    """A client that comes back with a cursor and a check of one stream."""

    def __init__(self, log: ModelLog, cursor: int, seq: int, check: str, *, stream: str = OWN) -> None:
        super().__init__(log)
        resume = {"log": "log-1", "cursors": {stream: cursor}, "checks": {stream: [seq, check]}}
        self.outcome = self.login(resume=resume)["streams"][stream]["outcome"]


@pytest.mark.parametrize("forgetful", [False, True])
def test_live_carries_the_check_of_the_newest_event(forgetful: bool) -> None:
    log = linked(3)
    log.forgetful = forgetful
    driver = Driver(log)
    driver.login()
    live = {"type": "live", "stream": OWN, "seq": 3, "check": check(3)}
    if forgetful:
        assert driver.lookups == [(OWN, 3)]
        del live["check"]  # a real log keeps a link that was read; this model does not
    assert live in driver.take()


def test_live_of_a_stream_without_events_has_no_check() -> None:
    driver = Driver(linked(1))
    driver.login()
    assert {"type": "live", "stream": "system", "seq": 0} in driver.take()


def test_a_subscribe_to_a_stream_whose_check_is_unknown_looks_it_up_first() -> None:
    log = linked(2, "group/ops")
    driver = Driver(log)
    driver.login()
    driver.take()
    log.forgetful = True
    assert [m["type"] for m in driver.say(action="subscribe", stream="group/ops")] == ["subscribed", "live"]
    assert driver.lookups == [("group/ops", 2)]


def test_a_snapshot_carries_the_check_of_its_event() -> None:
    driver = Driver(linked(3))
    driver.hold_snapshots = True
    driver.login()
    driver.say(action="subscribe", stream=OWN, after="snapshot")
    assert driver.give_snapshot(2)[0]["check"] == check(2)


def test_a_classic_client_is_told_no_check() -> None:
    driver = Driver(linked(3), dialect=DOCUMENT)
    driver.login()
    assert {"type": "live", "stream": OWN, "seq": 3} in driver.take()


def test_a_check_that_fits_goes_on_as_without_one() -> None:
    driver = Returned(linked(5), 4, 3, check(3))
    assert driver.outcome == "resumed"
    assert driver.alarms == []


def test_a_check_that_differs_is_a_reset_with_an_alarm() -> None:
    driver = Returned(linked(5), 4, 3, check(3, history=2))
    assert driver.outcome == "reset"
    assert driver.alarms == [Alarm(OWN, 4, 5, check_seq=3)]
    assert "snapshot" in [message["type"] for message in driver.take()]


def test_a_check_that_differs_costs_the_other_streams_nothing() -> None:
    log = linked(2, "system", log=linked(5))
    driver = Driver(log)
    resume = {
        "log": "log-1",
        "cursors": {OWN: 4, "system": 1},
        "checks": {OWN: [3, check(3, history=2)], "system": [1, check(1)]},
    }
    streams = driver.login(resume=resume)["streams"]
    assert {name: place["outcome"] for name, place in streams.items()} == {OWN: "reset", "system": "resumed"}


def test_a_check_of_an_event_that_the_log_does_not_hold_differs() -> None:
    driver = Returned(linked(5), 4, 6, check(6))
    assert driver.outcome == "reset"
    assert driver.alarms == [Alarm(OWN, 4, 5, check_seq=6)]


def test_a_cursor_ahead_of_the_log_is_called_that() -> None:
    assert Returned(linked(5), 9, 8, check(8)).alarms == [Alarm(OWN, 9, 5)]


def test_a_check_of_a_pruned_event_is_not_compared() -> None:
    log = linked(5)
    log.prune(OWN, 3)
    driver = Returned(log, 4, 2, check(2, history=2))
    assert driver.outcome == "resumed"


def test_a_check_is_not_compared_with_another_log() -> None:
    driver = Driver(linked(5))
    resume = {"log": "log-0", "cursors": {OWN: 4}, "checks": {OWN: [3, check(3)]}}
    assert driver.login(resume=resume)["streams"][OWN]["outcome"] == "reset"
    assert driver.alarms == []
    assert driver.lookups == []


def test_checks_of_streams_that_may_not_be_read_are_not_looked_up() -> None:
    driver = Returned(linked(5, "user/43"), 4, 3, check(3), stream="user/43")
    assert driver.outcome == "denied"
    assert driver.lookups == []


def test_a_text_that_no_check_can_be_differs() -> None:
    assert Returned(linked(5), 4, 3, "?").outcome == "reset"


@pytest.mark.parametrize("pair", [[3], ["3", "aa"], [3, 7], [-1, "aa"], [3, "a" * 65]])
def test_a_pair_of_the_wrong_form_is_an_invalid_field(pair: list[Any]) -> None:
    resume = {"log": "log-1", "cursors": {OWN: 1}, "checks": {OWN: pair}}
    answers = Driver(linked(1)).say(action="authenticate", token="alice", resume=resume)
    assert [(m["type"], m["code"]) for m in answers] == [("error", "invalid_field")]


def test_no_message_is_handed_in_while_links_are_looked_up() -> None:
    driver = Driver(linked(5))
    session = driver.session
    resume = {"log": "log-1", "cursors": {OWN: 4}, "checks": {OWN: [3, check(3)]}}
    session.received(_json(action="authenticate", token="alice", resume=resume), driver.now)
    session.verdict(driver.verify("alice"), driver.now)
    assert session.busy
    session.looked_up({}, driver.now)
    assert not session.busy


def test_what_is_looked_up_for_one_connection_is_bounded_by_its_subscriptions() -> None:
    log = ModelLog()
    names = [f"group/ops{n}" for n in range(9)]
    for name in names:
        linked(3, name, log=log)
    driver = Driver(log, settings=TransportSettings(subscriptions_max=4))
    checks = {name: [1, check(1)] for name in names}
    driver.login("root", resume={"log": "log-1", "cursors": dict.fromkeys(names, 2), "checks": checks})
    assert len(driver.lookups) <= 4


def test_a_subscribe_with_a_check_that_differs_is_a_reset_with_an_alarm() -> None:
    driver = Driver(linked(5, "group/ops"))
    driver.login()
    driver.take()
    asked = {"action": "subscribe", "stream": "group/ops", "after": 4, "log": "log-1"}
    assert driver.say(**asked, check=[3, check(3)])[0]["outcome"] == "resumed"
    assert driver.say(**asked, check=[3, check(3, history=2)])[0]["outcome"] == "reset"
    assert driver.alarms == [Alarm("group/ops", 4, 5, check_seq=3)]


def test_a_subscribe_of_a_client_that_knows_of_its_reset_is_a_reset_without_another_alarm() -> None:
    driver = Driver(linked(5, "group/ops"))
    driver.login()
    driver.take()
    asked = {
        "action": "subscribe",
        "stream": "group/ops",
        "after": 4,
        "log": "",
        "check": [3, check(3, history=2)],
    }
    assert driver.say(**asked)[0]["outcome"] == "reset"
    assert driver.alarms == []


@given(
    count=st.integers(1, 6),
    pruned=st.integers(0, 5),
    cursor=st.integers(0, 7),
    seq=st.integers(0, 7),
    other=st.booleans(),
    forgetful=st.booleans(),
)
def test_only_what_the_log_contradicts_is_a_reset(
    count: int, pruned: int, cursor: int, seq: int, other: bool, forgetful: bool
) -> None:
    log = linked(count)
    log.prune(OWN, min(pruned, count - 1))
    log.forgetful = forgetful
    driver = Returned(log, cursor, seq, check(seq, history=2 if other else 1))
    first = log.head(OWN).first
    contradicted = seq > count or (other and first <= seq <= count and seq > 0)
    if cursor > count or contradicted:
        assert driver.outcome == "reset"
        assert len(driver.alarms) == 1
    else:
        assert driver.outcome == ("gap" if cursor < first - 1 else "resumed")
        assert driver.alarms == []


def _json(**message: Any) -> bytes:
    return json.dumps(message).encode()
