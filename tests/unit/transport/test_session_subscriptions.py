"""PROTOCOL 2 and 3.2: subscribing, moving, leaving, and the right to."""

from typing import Any

import pytest

from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.session import Driver, ModelLog, seqs, types


def ops(count: int = 5) -> ModelLog:
    log = ModelLog()
    for _ in range(count):
        log.append("group/ops")
    return log


def driver_with(log: ModelLog | None = None, who: str = "alice", **limits: Any) -> Driver:
    driver = Driver(log, settings=TransportSettings(**limits))
    driver.login(who)
    driver.take()
    return driver


def test_the_answer_says_where_the_reader_stands_and_comes_before_its_events() -> None:
    answers = driver_with(ops()).say(action="subscribe", id="c1", stream="group/ops", after=2, log="log-1")
    assert answers[0] == {
        "type": "subscribed",
        "id": "c1",
        "stream": "group/ops",
        "log": "log-1",
        "outcome": "resumed",
        "after": 2,
        "first": 1,
        "head": 5,
    }
    assert types(answers) == ["subscribed", "events", "live"]
    assert seqs(answers, "group/ops") == [3, 4, 5]


def test_without_a_place_it_begins_at_the_head() -> None:
    answers = driver_with(ops()).say(action="subscribe", stream="group/ops")
    assert (answers[0]["outcome"], answers[0]["after"]) == ("fresh", 5)
    assert answers[1:] == [{"type": "live", "stream": "group/ops", "seq": 5}]


def test_start_is_the_whole_history_where_nothing_is_pruned() -> None:
    answers = driver_with(ops()).say(action="subscribe", stream="group/ops", after="start")
    assert answers[0]["outcome"] == "resumed"
    assert seqs(answers, "group/ops") == [1, 2, 3, 4, 5]


def test_start_is_a_gap_where_something_is_pruned() -> None:
    log = ops()
    log.prune("group/ops", 2)
    answers = driver_with(log).say(action="subscribe", stream="group/ops", after="start")
    assert (answers[0]["outcome"], answers[1]["type"], answers[1]["seq"]) == ("gap", "snapshot", 5)


def test_a_snapshot_comes_before_the_events_behind_it() -> None:
    driver = driver_with(ops())
    driver.hold_snapshots = True
    (subscribed,) = driver.say(action="subscribe", stream="group/ops", after="snapshot")
    assert subscribed["outcome"] == "snapshot"
    assert driver.append("group/ops", "six", "seven") == []
    answers = driver.give_snapshot(6, b'{"recent":[]}')
    assert answers[0] == {"type": "snapshot", "stream": "group/ops", "seq": 6, "state": {"recent": []}}
    assert seqs(answers, "group/ops") == [7]
    assert answers[-1] == {"type": "live", "stream": "group/ops", "seq": 7}


def test_a_snapshot_that_comes_after_the_subscription_moved_is_dropped() -> None:
    driver = driver_with(ops())
    driver.hold_snapshots = True
    driver.say(action="subscribe", stream="group/ops", after="snapshot")
    driver.say(action="subscribe", stream="group/ops", after=5, log="log-1")
    assert driver.give_snapshot(5) == []
    assert seqs(driver.append("group/ops", "six"), "group/ops") == [6]


def test_a_snapshot_above_the_largest_reply_ends_the_subscription_with_a_reason() -> None:
    driver = driver_with(ops(), reply_bytes_max=200)
    driver.hold_snapshots = True
    driver.say(action="subscribe", stream="group/ops", after="snapshot")
    (said,) = driver.give_snapshot(5, b'{"a":"' + b"x" * 300 + b'"}')
    assert said == {"type": "unsubscribed", "stream": "group/ops", "reason": "too_large"}
    assert "group/ops" not in driver.watched


def test_subscribing_again_moves_the_position() -> None:
    driver = driver_with(ops())
    driver.say(action="subscribe", stream="group/ops", after=0, log="log-1")
    answers = driver.say(action="subscribe", stream="group/ops", after=3, log="log-1")
    assert seqs(answers, "group/ops") == [4, 5]
    assert answers[-1]["type"] == "live"


def test_unsubscribing_ends_the_events() -> None:
    driver = driver_with(ops())
    driver.say(action="subscribe", stream="group/ops")
    assert driver.say(action="unsubscribe", id="c2", stream="group/ops") == [
        {"type": "unsubscribed", "id": "c2", "stream": "group/ops"}
    ]
    assert driver.append("group/ops", "unheard") == []


def test_unsubscribing_from_what_one_never_had_is_answered() -> None:
    assert types(driver_with().say(action="unsubscribe", stream="group/ops")) == ["unsubscribed"]


@pytest.mark.parametrize(
    "stream",
    ["user/43", "group/dev", "group/", "log", "mailbox/1", "auth", "audit", "group/a b", "user/042", "*"],
)
def test_a_user_is_denied_what_is_not_his_and_what_does_not_exist(stream: str) -> None:
    driver = driver_with()
    assert driver.say(action="subscribe", id="c", stream=stream, after="start") == [
        {"type": "subscribed", "id": "c", "stream": stream, "log": "log-1", "outcome": "denied"}
    ]
    assert driver.append(stream, "secret") == []


@pytest.mark.parametrize(
    "stream", ["user/42", "user/alice@example.com", "group/dev", "system", "log", "removed/1"]
)
def test_an_admin_may_read_every_public_stream_and_the_log(stream: str) -> None:
    assert driver_with(who="root").say(action="subscribe", stream=stream)[0]["outcome"] == "fresh"


@pytest.mark.parametrize(
    "stream", ["mailbox/1", "auth", "audit", "effect/a/1", "user/..", "user/a b", "user/", "nothing", "A/1"]
)
def test_an_admin_too_reads_internal_streams_only_through_the_log(stream: str) -> None:
    assert driver_with(who="root").say(action="subscribe", stream=stream)[0]["outcome"] == "denied"


def test_on_the_log_the_seq_is_the_position_and_each_event_says_where_it_belongs() -> None:
    log = ModelLog()
    log.append("mailbox/1")
    log.append("user/42")
    driver = driver_with(log, who="root")
    answers = driver.say(action="subscribe", stream="log", after="start")
    events = answers[1]["events"]
    assert (answers[1]["stream"], answers[1]["seq"]) == ("log", 1)
    assert [event["in"] for event in events] == [
        {"stream": "mailbox/1", "seq": 1},
        {"stream": "user/42", "seq": 1},
    ]


def test_a_number_without_its_log_is_an_invalid_field() -> None:
    (error,) = driver_with(ops()).say(action="subscribe", id="c", stream="group/ops", after=3)
    assert (error["code"], error["id"], error["details"].split(":")[0]) == ("invalid_field", "c", "log")


@pytest.mark.parametrize("after", [-1, 1.5, True, [], {}, "tail", 2**53])
def test_a_place_that_is_none_is_an_invalid_field(after: object) -> None:
    (error,) = driver_with(ops()).say(action="subscribe", stream="group/ops", after=after, log="log-1")
    assert error["code"] == "invalid_field"


def test_the_subscriptions_of_a_connection_are_bounded() -> None:
    driver = driver_with(who="root", subscriptions_max=4)
    for name in ("a", "b"):
        assert driver.say(action="subscribe", stream=f"group/{name}")[0]["outcome"] == "fresh"
    (error,) = driver.say(action="subscribe", id="c", stream="group/c")
    assert (error["code"], error["id"]) == ("too_large", "c")
    assert driver.say(action="subscribe", stream="group/a")[0]["outcome"] == "fresh"
    driver.say(action="unsubscribe", stream="group/a")
    assert driver.say(action="subscribe", stream="group/c")[0]["outcome"] == "fresh"


def test_cursors_beyond_the_most_of_subscriptions_are_denied() -> None:
    driver = Driver(settings=TransportSettings(subscriptions_max=3))
    result = driver.login("root", resume={"log": "log-1", "cursors": {"group/a": 0, "group/b": 0}})
    assert [result["streams"][s]["outcome"] for s in ("group/a", "group/b")] == ["resumed", "denied"]


def test_zero_events_are_a_place_too() -> None:
    """A client that has received no event yet can resume too."""
    driver = driver_with()
    (answer, live) = driver.say(action="subscribe", stream="group/ops", after=0, log="log-1")
    assert (answer["outcome"], answer["after"], live["seq"]) == ("resumed", 0, 0)
