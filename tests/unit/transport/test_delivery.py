"""Which events are sent next, and which snapshots are taken."""

import pytest

from huahuo.eventstore.model import Joined
from huahuo.transport.protocol.frames import FrameCache
from huahuo.transport.session.delivery import LASTS_EVENTS, Delivery, Pace
from huahuo.transport.session.delivery_states import (
    TABLE,
    DeliveryState,
    IllegalStepError,
    Step,
    Subscription,
    Wanted,
)
from tests.support.drivers.session import ModelLog, payloads

STREAM = "user/42"


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


def test_a_page_for_more_than_the_window_has_room_for_is_read_again_as_events() -> None:
    log, one, sub = behind(3, window=2)
    one.park(sub)
    one.next_fetch()
    joined = log.page(STREAM, 0, 3)
    assert isinstance(joined.joined, Joined)
    assert one.took(sub, joined, 0.0) == []
    assert not one.joins(sub)


@pytest.mark.parametrize("step", Step, ids=lambda step: step.name)
def test_a_column_says_of_its_step_what_the_table_says(step: Step) -> None:
    column = TABLE.column(step)
    for state in DeliveryState:
        if (state, step) in TABLE:
            assert column[state] is TABLE[state, step]
        else:
            with pytest.raises(IllegalStepError, match=rf"{step.name} .* {state.name}"):
                column[state]


def subscription(stream: str = "user/1") -> Subscription:
    return Subscription(stream, 0, 0)


def test_a_snapshot_that_was_superseded_is_never_taken() -> None:
    wanted = Wanted(lambda: 0.5)
    for _ in range(1_000):
        newest = subscription()
        wanted.want(newest, 0)
    assert len(wanted) == 1
    want = wanted.take(0)
    assert want is not None
    assert want.sub is newest
    assert wanted.take(0) is None


def test_a_failed_attempt_does_not_replace_a_newer_wish() -> None:
    wanted = Wanted(lambda: 0.5)
    wanted.want(subscription(), 0)
    old = wanted.take(0)
    newer = subscription()
    wanted.want(newer, 1)
    assert old is not None
    wanted.not_now(old, 1)
    want = wanted.take(100)
    assert want is not None
    assert want.sub is newer
    assert not wanted
