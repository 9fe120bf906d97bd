"""The client's session: every event once, in order, and never a silent jump."""

import pytest

from huahuo.transport.client.model import (
    CommandError,
    Cursor,
    Live,
    LogReplaced,
    NotSubscribed,
    Outcome,
    Processed,
    ProtocolViolation,
    Reached,
    Readable,
    Skipped,
    Snapshot,
    StreamDenied,
    StreamEnded,
    StreamInUse,
)
from tests.support.drivers.client_session import LOG, STREAM, Bench


def test_events_reach_the_consumer_in_order() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 3)
    bench.events(4, 4)
    assert bench.take() == [1, 2, 3, 4]


def test_events_that_were_received_before_are_dropped() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 3)
    bench.events(2, 5)
    bench.events(1, 2)
    assert bench.take() == [1, 2, 3, 4, 5]


def test_missing_events_are_asked_for_again_from_what_was_handed_over() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 2)
    assert bench.take() == [1, 2]
    bench.events(3, 3)
    bench.events(5, 5)
    [subscribe] = [m for m in bench.said() if m["action"] == "subscribe"]
    assert (subscribe["after"], subscribe["log"]) == (2, LOG)
    bench.events(6, 6)
    bench.tell("subscribed", id=subscribe["id"], stream=STREAM, log=LOG, outcome="resumed", after=2)
    bench.events(3, 6)
    assert bench.take() == [3, 4, 5, 6]


def test_a_new_connection_goes_on_behind_what_the_consumer_was_handed() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 2)
    bench.events(3, 4)
    item = bench.session.take(STREAM)
    assert item is not None
    bench.session.closed(None, "lost", bench.now)
    assert bench.connect()["resume"] == {"log": LOG, "cursors": {STREAM: 2}}


def test_what_is_in_the_buffer_can_be_consumed_while_offline() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 4)
    bench.session.closed(None, "lost", bench.now)
    assert bench.take() == [1, 2, 3, 4]
    assert bench.connect()["resume"]["cursors"] == {STREAM: 4}


def test_a_place_at_the_head_is_a_cursor_even_if_nothing_ever_came() -> None:
    bench = Bench().follow("head").online("fresh", after=9)
    bench.session.closed(None, "lost", bench.now)
    assert bench.connect()["resume"]["cursors"] == {STREAM: 9}


def test_a_place_at_the_head_is_kept_in_the_store() -> None:
    bench = Bench().follow("head").online("fresh", after=9)
    bench.wait(0.3)
    bench.wait(0.3)
    assert bench.happened(Processed)[-1].cursors == {STREAM: Cursor(LOG, 9)}


def test_a_cursor_of_another_log_is_asked_for_by_itself() -> None:
    bench = Bench().follow("head", Cursor("old", 5))
    bench.session.subscribe("group/ops", "head", Cursor("older", 7), bench.now)
    assert bench.connect()["resume"] == {"log": "old", "cursors": {STREAM: 5}}
    bench.accept(streams={STREAM: {"outcome": "reset", "after": 1}})
    [subscribe] = [m for m in bench.said() if m["action"] == "subscribe"]
    assert (subscribe["stream"], subscribe["after"], subscribe["log"]) == ("group/ops", 7, "older")


def test_a_number_counts_in_the_present_log_if_none_was_named() -> None:
    bench = Bench().follow(17)
    bench.connect()
    bench.accept()
    [subscribe] = bench.said()
    assert (subscribe["after"], subscribe["log"]) == (17, LOG)


@pytest.mark.parametrize("outcome", ["gap", "reset", "snapshot"])
def test_nothing_counts_before_the_snapshot_that_was_announced(outcome: str) -> None:
    bench = Bench().follow("start", Cursor(LOG, 3)).online(outcome, after=20)
    bench.events(4, 5)
    bench.tell("snapshot", stream=STREAM, seq=20, state={"emails": []})
    bench.events(21, 21)
    item = bench.session.take(STREAM)
    assert isinstance(item, Snapshot)
    assert (item.last, item.outcome, item.state) == (20, outcome, {"emails": []})
    assert bench.take() == [21]


def test_a_snapshot_that_was_not_handed_over_is_asked_for_again() -> None:
    bench = Bench().follow("start", Cursor("old", 3)).online("reset", after=20)
    bench.tell("snapshot", stream=STREAM, seq=20, state={})
    bench.session.closed(None, "lost", bench.now)
    bench.connect()
    bench.accept()
    [subscribe] = [m for m in bench.said() if m["action"] == "subscribe"]
    assert (subscribe["after"], subscribe["log"]) == (3, "old")


def test_a_place_that_was_not_asked_for_breaks_the_protocol() -> None:
    bench = Bench().follow("start", Cursor(LOG, 3))
    bench.connect()
    with pytest.raises(ProtocolViolation):
        bench.accept(streams={STREAM: {"outcome": "resumed", "after": 4}})


def test_a_skipped_range_moves_the_cursor_and_is_told() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 1)
    bench.tell("skipped", stream=STREAM, seq=2, to=8, reason="compacted")
    bench.events(9, 9)
    assert bench.take() == [1, 8, 9]


def test_a_skip_that_comes_again_or_overlaps_is_told_once() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 3)
    bench.tell("skipped", stream=STREAM, seq=2, to=8, reason="compacted")
    bench.tell("skipped", stream=STREAM, seq=2, to=7, reason="compacted")
    bench.events(9, 9)
    bench.session.take(STREAM)
    skipped = bench.session.take(STREAM)
    assert isinstance(skipped, Skipped)
    assert (skipped.first, skipped.last) == (4, 8)
    assert bench.take() == [9]


def test_a_skip_that_begins_too_late_is_a_gap() -> None:
    bench = Bench().follow("start").online()
    bench.tell("skipped", stream=STREAM, seq=2, to=8, reason="compacted")
    assert bench.take() == []
    assert [m["action"] for m in bench.said()] == ["subscribe"]


def test_a_denied_stream_ends_its_consumer() -> None:
    bench = Bench().follow("start").online("denied")
    [ended] = bench.happened(StreamEnded)
    assert isinstance(ended.error, StreamDenied)


def test_a_right_that_was_lost_ends_the_consumer() -> None:
    bench = Bench().follow("start").online()
    bench.tell("unsubscribed", stream=STREAM, reason="forbidden")
    [ended] = bench.happened(StreamEnded)
    assert isinstance(ended.error, StreamDenied)


def test_a_subscription_that_was_refused_ends_the_consumer_with_the_reason() -> None:
    bench = Bench().follow("start")
    bench.connect()
    bench.accept()
    [subscribe] = bench.said()
    bench.tell("error", id=subscribe["id"], code="too_large", message="256")
    [ended] = bench.happened(StreamEnded)
    assert isinstance(ended.error, CommandError)
    assert ended.error.code == "too_large"


def test_a_subscription_that_came_too_fast_is_asked_for_again() -> None:
    bench = Bench().follow("start")
    bench.connect()
    bench.accept()
    [subscribe] = bench.said()
    bench.tell("error", id=subscribe["id"], code="rate_limited", message="slow down")
    assert bench.said() == []
    bench.wait(5)
    assert [m["action"] for m in bench.said() if m["action"] != "ack"] == ["subscribe"]


def test_a_subscription_that_the_server_cannot_serve_now_is_asked_for_again_when_it_said() -> None:
    bench = Bench().follow("snapshot").online("snapshot")
    bench.tell("unsubscribed", stream=STREAM, reason="busy", retry_s=8.5)
    assert bench.happened(StreamEnded) == []
    bench.wait(8)
    assert [m["action"] for m in bench.said()] == []
    bench.wait(1)
    assert [m["action"] for m in bench.said()] == ["subscribe"]


def test_a_stream_has_one_consumer() -> None:
    bench = Bench().follow("start")
    with pytest.raises(StreamInUse):
        bench.follow("start")


def test_events_of_a_stream_without_consumer_count_as_processed() -> None:
    bench = Bench()
    bench.connect()
    bench.accept(streams={STREAM: {"outcome": "fresh", "after": 9}})
    bench.events(10, 13)
    assert bench.acks() == [{STREAM: 13}]
    assert bench.happened(Readable) == []


def test_the_servers_own_subscription_goes_on_unread_when_its_consumer_leaves() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 2)
    bench.session.unsubscribe(STREAM, bench.now)
    bench.events(3, 6)
    assert [m["action"] for m in bench.said()] == ["ack"]


def test_another_stream_is_unsubscribed_when_its_consumer_leaves() -> None:
    bench = Bench()
    bench.session.subscribe("group/ops", "head", None, bench.now)
    bench.connect()
    bench.accept()
    bench.said()
    bench.session.unsubscribe("group/ops", bench.now)
    assert bench.said() == [{"action": "unsubscribe", "stream": "group/ops"}]


def test_a_server_that_ignores_the_window_breaks_the_protocol() -> None:
    bench = Bench(window=4).follow("start")
    bench.connect()
    bench.accept(window=4)
    [subscribe] = bench.said()
    bench.tell("subscribed", id=subscribe["id"], stream=STREAM, log=LOG, outcome="resumed", after=0)
    with pytest.raises(ProtocolViolation):
        bench.events(1, 9)


def test_live_is_told_once_the_stream_is_where_the_consumer_wants_it() -> None:
    bench = Bench().follow("start")
    bench.connect()
    bench.accept(streams={STREAM: {"outcome": "fresh", "after": 9}})
    bench.tell("live", stream=STREAM, seq=9)
    [subscribe] = [m for m in bench.said() if m["action"] == "subscribe"]
    bench.tell("subscribed", id=subscribe["id"], stream=STREAM, log=LOG, outcome="resumed", after=0, head=9)
    bench.events(1, 8)
    bench.tell("live", stream=STREAM, seq=8)
    assert bench.happened(Live) == [Live(STREAM, 8)]
    assert bench.happened(Outcome) == [Outcome(STREAM, "resumed", 0, 9)]


def test_a_place_is_reached_when_the_consumer_has_processed_it() -> None:
    bench = Bench().follow("start").online()
    token = bench.session.wait_for(STREAM, 2)
    bench.events(1, 3)
    assert bench.happened(Reached) == []
    bench.take()
    assert bench.happened(Reached) == [Reached(token)]


def test_a_place_that_has_been_passed_is_reached_at_once() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 3)
    bench.take()
    token = bench.session.wait_for(STREAM, 2)
    assert bench.happened(Reached) == [Reached(token)]


def test_a_place_in_a_log_that_was_replaced_is_never_reached() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 1)
    bench.take()
    bench.session.wait_for(STREAM, 2)
    bench.session.closed(None, "lost", bench.now)
    bench.online("reset", after=7)
    [reached] = bench.happened(Reached)
    assert isinstance(reached.error, LogReplaced)


def test_nobody_can_wait_for_a_stream_that_is_not_followed() -> None:
    with pytest.raises(NotSubscribed):
        Bench().session.wait_for("group/ops", 1)
