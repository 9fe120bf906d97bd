"""An ack means processed: when it is sent, and which events it never includes (PROTOCOL 5)."""

from huahuo.transport.client.model import Cursor, Processed
from tests.support.drivers.client_session import LOG, STREAM, Bench


def test_an_ack_leaves_a_quarter_of_a_second_after_an_event_was_processed() -> None:
    bench = Bench().follow("start").online()
    bench.wait(1)
    bench.said()
    bench.events(1, 1)
    bench.take()
    assert bench.acks() == []
    bench.wait(0.25)
    assert bench.acks() == [{STREAM: 1}]


def test_an_ack_leaves_at_once_at_half_a_window() -> None:
    bench = Bench(window=8).follow("start").online()
    bench.events(1, 4)
    bench.take()
    assert bench.acks() == [{STREAM: 4}]


def test_what_the_consumer_has_not_finished_is_not_acked() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 4)
    bench.session.take(STREAM)
    bench.wait(1)
    assert bench.acks() == []


def test_the_deadline_is_when_the_ack_is_due() -> None:
    bench = Bench().follow("start").online()
    bench.wait(1)
    bench.wait(1)
    bench.said()
    bench.events(1, 1)
    bench.take()
    assert bench.session.deadline() == bench.now + 0.25


def test_work_on_an_older_era_says_nothing_about_the_new_one() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 8)
    item = bench.session.take(STREAM)
    assert item is not None
    bench.session.closed(None, "lost", bench.now)
    bench.online("reset", after=3)
    bench.tell("snapshot", stream=STREAM, seq=3, state={})
    bench.session.processed(STREAM, item.era, item.last, bench.now)
    bench.wait(1)
    assert bench.acks() == []
    assert all(told.cursors[STREAM].seq == 0 for told in bench.happened(Processed))


def test_after_a_reconnect_what_was_processed_is_said_again() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 2)
    bench.take()
    bench.session.closed(None, "the ack was never sent", bench.now)
    bench.online(after=2)
    bench.wait(0.25)
    assert bench.acks() == [{STREAM: 2}]


def test_what_was_processed_offline_reaches_the_cursor_store() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 4)
    bench.session.closed(None, "lost", bench.now)
    bench.take()
    bench.wait(1)
    bench.wait(1)
    assert bench.happened(Processed)[-1].cursors == {STREAM: Cursor(LOG, 4)}


def test_the_cursor_store_is_not_written_for_every_ack() -> None:
    bench = Bench(window=2).follow("start").online()
    for seq in range(1, 9):
        bench.events(seq, seq)
        bench.take()
        bench.said()
        bench.wait(0.01)
    assert len(bench.happened(Processed)) <= 2
    bench.wait(0.25)
    assert bench.happened(Processed)[-1].cursors == {STREAM: Cursor(LOG, 8)}


def test_a_flush_says_at_once_what_was_processed() -> None:
    bench = Bench().follow("start").online()
    bench.events(1, 1)
    bench.take()
    bench.session.flush(bench.now)
    assert bench.acks() == [{STREAM: 1}]
    assert bench.happened(Processed)[-1].cursors == {STREAM: Cursor(LOG, 1)}


def test_what_was_processed_last_is_acked_before_the_stream_is_left() -> None:
    bench, group = Bench().online(), "group/ops"
    bench.session.subscribe(group, "start", None, bench.now)
    [asked] = [message for message in bench.said() if message["action"] == "subscribe"]
    place = {"outcome": "resumed", "after": 0, "first": 1, "head": 1}
    bench.tell("subscribed", id=asked["id"], stream=group, log=LOG, **place)
    bench.tell("events", stream=group, seq=1, events=[{"type": "e"}])
    item = bench.session.take(group)
    assert item is not None
    bench.session.processed(group, item.era, item.last, bench.now)
    bench.session.unsubscribe(group, bench.now)
    assert [(said["action"], said.get("cursors")) for said in bench.said()] == [
        ("ack", {group: 1}), ("unsubscribe", None)
    ]  # fmt: skip
