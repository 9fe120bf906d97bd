"""What a delivery does with a reader that ends while it waits, asks twice, or leaves the pace of others."""

from huahuo.eventstore.model import Joined
from huahuo.transport.protocol.frames import FrameCache
from huahuo.transport.session.delivery import LASTS_EVENTS, Delivery, Pace
from huahuo.transport.session.delivery_states import DeliveryState, Subscription
from tests.support.drivers.session import ModelLog, Run, payloads

STREAM = "user/42"
CAUSE = ("user/42", "c-1")


def delivery(log: ModelLog, *, window: int = 500, frame_bytes_max: int = 1 << 18) -> Delivery:
    frames = FrameCache(bytes_max=1 << 20, frame_bytes_max=frame_bytes_max)
    return Delivery(log, frames, batched=True, window=window, past_max=4)


def behind(events: int, **limits: int) -> tuple[ModelLog, Delivery, Subscription]:
    """A reader at the beginning of a stream with some events, whose turn has come."""
    log = ModelLog()
    for _ in range(events):
        log.append(STREAM)
    one = delivery(log, **limits)
    sub = one.add(STREAM, 0, waiting=False)
    one.settle(sub)
    assert one.next_read() is sub
    return log, one, sub


def waits(one: Delivery) -> bool:
    """Asked anew each time."""
    return one.unfinished


def test_a_reader_that_is_behind_counts_as_unread_until_its_turn() -> None:
    log, one, sub = behind(2)
    unread = [one.backlog]
    one.took(sub, log.run(STREAM, 0, 1), 0.0)
    unread.append(one.backlog)
    assert unread == [False, True]


def test_a_reader_that_ends_while_its_page_is_waited_for_is_fetched_no_more() -> None:
    _, one, sub = behind(2)
    one.park(sub)
    assert waits(one)
    one.drop(STREAM)
    assert not waits(one)
    assert one.next_fetch() is None


def test_a_reader_that_ends_after_its_page_could_not_be_read_is_not_tried_again() -> None:
    _, one, sub = behind(2)
    one.park(sub)
    assert one.next_fetch() is sub
    one.fetch_failed(sub)
    assert waits(one)
    one.drop(STREAM)
    one.retry()
    assert not waits(one)
    assert one.next_read() is None


def test_a_page_that_fails_for_a_reader_that_has_ended_leaves_nothing_to_try_again() -> None:
    _, one, sub = behind(2)
    one.park(sub)
    one.next_fetch()
    one.drop(STREAM)
    one.fetch_failed(sub)
    assert not waits(one)


def test_a_page_that_could_not_be_read_is_asked_for_again_at_the_next_try() -> None:
    log, one, sub = behind(2)
    one.park(sub)
    one.next_fetch()
    one.fetch_failed(sub)
    assert one.next_read() is None
    one.retry()
    assert one.next_read() is sub
    one.park(sub)
    one.next_fetch()
    one.took(sub, log.page(STREAM, 0, 10), 0.0)
    assert one.cursors() == {STREAM: 2}


def test_a_joined_page_beyond_the_frame_limit_comes_as_single_events() -> None:
    log, one, sub = behind(3, frame_bytes_max=60)
    one.park(sub)
    one.next_fetch()
    assert one.joins(sub)
    assert one.took(sub, log.page(STREAM, 0, 10), 0.0) == []
    assert not one.joins(sub)
    assert one.next_read() is sub
    [frame] = one.took(sub, log.run(STREAM, 0, 10), 0.0)
    assert len(payloads(frame)) == 1
    assert one.cursors() == {STREAM: 1}
    assert one.joins(sub)


def test_events_of_a_command_that_runs_twice_wait_for_both_answers() -> None:
    log = ModelLog()
    one = delivery(log)
    sub = one.add(STREAM, 0, waiting=False)
    one.settle(sub)
    one.expect(CAUSE)
    one.expect(CAUSE)
    log.append(STREAM, principal=CAUSE[0], command_id=CAUSE[1])
    one.wake(STREAM)
    assert one.next_read() is sub
    assert one.took(sub, log.run(STREAM, 0, 10), 0.0) == []
    one.answered(CAUSE)
    assert one.next_read() is None
    one.answered(CAUSE)
    assert one.next_read() is sub


def test_an_answer_releases_only_the_readers_that_waited_for_it() -> None:
    log = ModelLog()
    one = delivery(log)
    held, other = (one.add(stream, 0, waiting=False) for stream in (STREAM, "system"))
    for sub in (held, other):
        one.settle(sub)
    one.expect(CAUSE)
    log.append(STREAM, principal=CAUSE[0], command_id=CAUSE[1])
    one.wake(STREAM)
    assert one.next_read() is held
    one.took(held, log.run(STREAM, 0, 10), 0.0)
    one.answered(CAUSE)
    assert (held.state, other.state) == (DeliveryState.READY, DeliveryState.LIVE)


def test_who_was_woken_for_nothing_hears_of_no_lag() -> None:
    log, one, sub = behind(2, window=2)
    one.took(sub, log.run(STREAM, 0, 2), 0.0)
    one.wake(STREAM)
    assert one.window.credit == 0
    assert one.lag(0.0, 1.0) is None
    log.append(STREAM)
    assert one.lag(0.0, 1.0) is not None


def test_who_is_sent_an_event_by_itself_leaves_the_pace_of_others_first() -> None:
    log = ModelLog()
    one = delivery(log)
    one.settle(one.add(STREAM, 0, waiting=False))
    pace, left = Pace(0), list[str]()
    assert one.keep_pace(STREAM, pace, lambda: left.append("left"))
    pace.moved(3, 1.0)
    assert one.take(STREAM, 4, 1, 2.0)
    assert (left, one.paced, one.cursors()) == (["left"], False, {STREAM: 4})


def test_a_window_without_much_room_keeps_no_pace() -> None:
    log = ModelLog()
    one = delivery(log, window=LASTS_EVENTS - 1)
    one.settle(one.add(STREAM, 0, waiting=False))
    assert not one.keep_pace(STREAM, Pace(0), lambda: None)
    assert not one.paced


def test_an_empty_page_leaves_a_reader_live() -> None:
    log = ModelLog()
    one = delivery(log)
    sub = one.add(STREAM, 0, waiting=False)
    one.settle(sub)
    one.wake(STREAM)
    assert one.next_read() is sub
    assert one.took(sub, Run(0), 0.0) == []
    assert sub.state is DeliveryState.LIVE


def test_a_page_for_more_than_the_window_has_room_for_is_read_again_as_events() -> None:
    log, one, sub = behind(3, window=2)
    one.park(sub)
    one.next_fetch()
    joined = log.page(STREAM, 0, 3)
    assert isinstance(joined.joined, Joined)
    assert one.took(sub, joined, 0.0) == []
    assert not one.joins(sub)
