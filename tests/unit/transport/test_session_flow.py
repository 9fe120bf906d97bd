"""PROTOCOL 5: the window, acks, lag, and a reader that never acks."""

import pytest

from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.session import Driver, ModelLog, seqs, types


def resumed(count: int, window: int = 10, **cursors: int) -> Driver:
    log = ModelLog()
    for _ in range(count):
        log.append("user/42")
    driver = Driver(log)
    driver.login(window=window, resume={"log": "log-1", "cursors": {"user/42": 0, **cursors}})
    return driver


def test_with_the_window_outstanding_nothing_more_is_sent() -> None:
    driver = resumed(50)
    assert seqs(driver.take(), "user/42") == list(range(1, 11))
    assert seqs(driver.append("user/42", "more"), "user/42") == []


def test_an_ack_makes_room_for_as_many() -> None:
    driver = resumed(50)
    driver.take()
    assert seqs(driver.ack(user_42=4), "user/42") == [11, 12, 13, 14]


def test_acks_are_cumulative_and_an_older_one_changes_nothing() -> None:
    driver = resumed(50)
    driver.take()
    driver.ack(user_42=8)
    assert driver.ack(user_42=3) == []
    assert driver.acked == {"user/42": 8}


def test_the_window_is_over_all_streams_together() -> None:
    log = ModelLog()
    for stream in ("user/42", "system"):
        for _ in range(8):
            log.append(stream)
    driver = Driver(log)
    driver.login(window=10, resume={"log": "log-1", "cursors": {"user/42": 0, "system": 0}})
    sent = driver.take()
    assert len(seqs(sent, "user/42")) + len(seqs(sent, "system")) == 10


@pytest.mark.parametrize("stream", ["user/42", "group/never", "system"])
def test_an_ack_beyond_what_was_sent_is_a_bad_ack_and_changes_nothing(stream: str) -> None:
    driver = resumed(50)
    driver.take()
    (error,) = driver.say(action="ack", id="a", cursors={stream: 11})
    assert (error["type"], error["code"], error["id"]) == ("error", "bad_ack", "a")
    assert driver.acked == {}
    assert driver.closed is None


def test_a_bad_cursor_does_not_spoil_the_good_ones_of_its_message() -> None:
    driver = resumed(50)
    driver.take()
    answers = driver.say(action="ack", cursors={"user/42": 5, "system": 99})
    assert driver.acked == {"user/42": 5}
    assert "error" in types(answers)
    assert seqs(answers, "user/42") == [11, 12, 13, 14, 15]


def test_a_position_handed_out_counts_as_sent() -> None:
    log = ModelLog()
    for _ in range(5):
        log.append("user/42")
    driver = Driver(log)
    driver.login()
    assert "error" not in types(driver.ack(user_42=5))


def test_the_seq_of_a_snapshot_counts_as_sent() -> None:
    driver = resumed(5)
    driver.take()
    driver.say(action="subscribe", stream="user/42", after="snapshot")
    assert driver.ack(user_42=5) == []


def test_what_was_skipped_counts_as_sent_and_is_not_owed() -> None:
    log = ModelLog()
    for _ in range(40):
        log.append("user/42")
    log.compact("user/42", 5, 30)
    driver = Driver(log)
    driver.login(window=10, resume={"log": "log-1", "cursors": {"user/42": 0}})
    assert seqs(driver.take(), "user/42") == [1, 2, 3, 4, 5, 31, 32, 33, 34, 35]
    assert seqs(driver.ack(user_42=30), "user/42") == [36, 37, 38, 39, 40]


def test_unsubscribing_frees_what_its_events_took_of_the_window() -> None:
    log = ModelLog()
    for _ in range(10):
        log.append("group/ops")
    driver = Driver(log)
    driver.login(window=10)
    driver.say(action="subscribe", stream="group/ops", after="start")
    assert seqs(driver.append("user/42", "waits"), "user/42") == []
    answers = driver.say(action="unsubscribe", stream="group/ops")
    assert seqs(answers, "user/42") == [1]


def test_what_was_sent_may_be_acked_after_unsubscribing() -> None:
    driver = resumed(5)
    driver.say(action="unsubscribe", stream="user/42")
    assert driver.ack(user_42=5) == []
    (error,) = driver.ack(user_42=6)
    assert error["code"] == "bad_ack"


def test_after_moving_back_an_ack_of_what_was_sent_before_is_legal() -> None:
    driver = resumed(5)
    driver.take()
    driver.say(action="subscribe", stream="user/42", after=2, log="log-1")
    assert driver.ack(user_42=5) == []
    assert driver.session.delivery.window.outstanding == 0


def test_lag_says_how_far_behind_at_most_once_a_second() -> None:
    driver = resumed(50)
    assert {"type": "lag", "stream": "user/42", "behind": 40} in driver.take()
    assert driver.append("user/42", "more") == []
    assert driver.after(0.9) == []
    assert driver.after(0.1) == [{"type": "lag", "stream": "user/42", "behind": 41}]


def test_a_reader_that_keeps_up_hears_of_no_lag() -> None:
    driver = resumed(0)
    driver.take()
    for seq in range(1, 40):
        assert types(driver.append("user/42", "x")) == ["events"]
        assert driver.ack(user_42=seq) == []


def test_without_an_ack_for_a_minute_the_connection_ends() -> None:
    driver = resumed(3)
    driver.take()
    assert driver.after(59) == []
    (goaway,) = driver.after(1)
    assert goaway["code"] == CloseCode.TOO_SLOW
    assert "retry_s" in goaway


def test_every_ack_of_something_new_starts_the_minute_anew() -> None:
    driver = resumed(3)
    driver.take()
    driver.after(50)
    driver.ack(user_42=1)
    assert driver.after(50) == []
    assert driver.closed is None


def test_an_ack_that_is_said_again_does_not() -> None:
    """A client that repeated its cursor by a timer could hold a full window for ever."""
    driver = resumed(3)
    driver.take()
    driver.ack(user_42=1)
    for _ in range(3):
        driver.after(19)
        assert driver.closed is None
        driver.ack(user_42=1)
    driver.after(3)
    assert driver.closed is not None


def test_with_nothing_outstanding_no_ack_is_owed() -> None:
    driver = resumed(3)
    driver.take()
    driver.ack(user_42=3)
    for _ in range(10):
        driver.after(29)
    assert driver.closed is None


def test_the_minute_begins_with_the_first_event_that_is_not_acked() -> None:
    driver = resumed(0)
    driver.take()
    driver.after(50)
    driver.append("user/42", "x")
    assert driver.after(50) == []
    driver.after(10)
    assert driver.closed is not None


def test_acks_do_not_count_against_the_rate() -> None:
    driver = Driver(settings=TransportSettings(messages_per_s=1))
    driver.login()
    driver.append("user/42", "x")
    for _ in range(100):
        assert driver.ack(user_42=1) == []


def test_bad_acks_do_count() -> None:
    driver = Driver(settings=TransportSettings(messages_per_s=1))
    driver.login()
    driver.take()
    codes = [driver.ack(user_42=9)[0]["code"] for _ in range(3)]
    assert codes == ["bad_ack", "rate_limited", "rate_limited"]


@pytest.mark.parametrize(
    "cursors", [None, [], {"user/42": -1}, {"user/42": "5"}, {"user/42": 2**53}, {"": 1}]
)
def test_an_ack_of_the_wrong_form_is_an_invalid_field(cursors: object) -> None:
    driver = resumed(0)
    driver.take()
    (error,) = driver.say(action="ack", cursors=cursors)
    assert error["code"] == "invalid_field"


@pytest.mark.parametrize(
    "spelled", ['{"action": "ack", "cursors": {"user/42": 4}}', '{"cursors":{"user/42":4},"action":"ack"}']
)
def test_an_ack_that_is_spelled_otherwise_counts_as_much_and_is_not_answered(spelled: str) -> None:
    driver = resumed(50)
    driver.take()
    assert seqs(driver.say_raw(spelled.encode()), "user/42") == [11, 12, 13, 14]
    assert driver.acked == {"user/42": 4}


def test_an_ack_of_the_wrong_form_above_the_rate_is_refused_for_the_rate() -> None:
    driver = Driver(settings=TransportSettings(messages_per_s=1))
    driver.login()
    driver.take()
    codes = [driver.say(action="ack", cursors=None)[0]["code"] for _ in range(2)]
    assert codes == ["invalid_field", "rate_limited"]


def test_unsubscribing_one_stream_leaves_the_wait_for_acks_of_another() -> None:
    log = ModelLog()
    log.append("user/42")
    log.append("group/ops")
    driver = Driver(log)
    driver.login(resume={"log": "log-1", "cursors": {"user/42": 0}})
    driver.say(action="subscribe", stream="group/ops", after="start")
    since_s = driver.session.delivery.unacked_since_s
    assert since_s is not None
    driver.say(action="unsubscribe", stream="group/ops")
    assert driver.session.delivery.unacked_since_s == since_s
    driver.say(action="unsubscribe", stream="user/42")
    assert driver.session.delivery.unacked_since_s is None
