"""Which events are sent next, and which snapshots are taken."""

from itertools import product

import pytest

from huahuo.eventstore.model import Joined
from huahuo.transport.protocol.frames import FrameCache
from huahuo.transport.session.delivery import LASTS_EVENTS, Delivery, Pace
from huahuo.transport.session.delivery_states import (
    FAULTS_MAX,
    LONGEST_S,
    PATIENCE_S,
    RETRY_S,
    TABLE,
    DeliveryState,
    IllegalStepError,
    Step,
    Subscription,
    Wanted,
)
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


def reachable(start: DeliveryState) -> set[DeliveryState]:
    """Every state that steps of the table lead to, `start` included."""
    seen = {start}
    while True:
        further = {to for (state, _), to in TABLE.items() if state in seen}
        if further <= seen:
            return seen
        seen |= further


@pytest.mark.parametrize("state", DeliveryState, ids=lambda state: state.name)
def test_every_state_can_end(state: DeliveryState) -> None:
    assert DeliveryState.GONE in reachable(state)


def test_nothing_leads_out_of_the_end() -> None:
    assert reachable(DeliveryState.GONE) == {DeliveryState.GONE}


@pytest.mark.parametrize("state", DeliveryState, ids=lambda state: state.name)
def test_any_other_step_is_a_fault_that_names_state_and_step(state: DeliveryState) -> None:
    for step in Step:
        if (state, step) not in TABLE:
            with pytest.raises(IllegalStepError, match=rf"{step.name} .* {state.name}"):
                TABLE[state, step]


@pytest.mark.parametrize("step", Step, ids=lambda step: step.name)
def test_a_column_says_of_its_step_what_the_table_says(step: Step) -> None:
    column = TABLE.column(step)
    for state in DeliveryState:
        if (state, step) in TABLE:
            assert column[state] is TABLE[state, step]
        else:
            with pytest.raises(IllegalStepError, match=rf"{step.name} .* {state.name}"):
                column[state]


def test_a_fault_is_a_failed_assertion_and_keeps_what_met() -> None:
    with pytest.raises(AssertionError) as caught:
        TABLE[DeliveryState.GONE, Step.REPLIED]
    assert isinstance(caught.value, IllegalStepError)
    assert (caught.value.state, caught.value.step) == (DeliveryState.GONE, Step.REPLIED)


def test_looking_up_a_wrong_pair_adds_nothing_to_the_table() -> None:
    before = dict(TABLE)
    for pair in product(DeliveryState, Step):
        if pair not in before:
            with pytest.raises(IllegalStepError):
                TABLE[pair]
    assert before == TABLE


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


def test_streams_take_turns() -> None:
    wanted = Wanted(lambda: 0.5)
    for stream in ("a/1", "a/2", "a/1"):
        wanted.want(subscription(stream), 0)
    first, second = wanted.take(0), wanted.take(0)
    assert first is not None
    assert second is not None
    assert (first.sub.stream, second.sub.stream) == ("a/2", "a/1")


def test_what_cannot_be_had_is_tried_again_ever_more_seldom() -> None:
    wanted = Wanted(lambda: 0.5)
    wanted.want(subscription(), 0)
    now_s, pauses = 0.0, []
    while now_s < PATIENCE_S:
        want = wanted.take(now_s)
        assert want is not None
        assert wanted.not_now(want, now_s) is None
        assert wanted.take(now_s) is None
        pauses.append(want.due_s - now_s)
        now_s = want.due_s
    assert pauses == sorted(pauses)
    assert pauses[0] > 0
    assert max(pauses) <= LONGEST_S


def test_after_a_while_the_client_is_told_when_to_come_back() -> None:
    wanted = Wanted(lambda: 0.5)
    wanted.want(subscription(), 0)
    want = wanted.take(PATIENCE_S)
    assert want is not None
    retry_s = wanted.not_now(want, PATIENCE_S)
    assert retry_s == sum(RETRY_S) / 2
    assert not wanted


def test_only_a_fold_that_fails_again_and_again_is_given_up() -> None:
    wanted = Wanted(lambda: 0.0)
    wanted.want(subscription(), 0)
    given_up = []
    for number in range(FAULTS_MAX):
        want = wanted.take(number * LONGEST_S)
        assert want is not None
        given_up.append(wanted.failed(want, number * LONGEST_S))
    assert given_up == [False] * (FAULTS_MAX - 1) + [True]


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


def test_whoever_is_wanted_no_more_is_not_taken() -> None:
    wanted = Wanted(lambda: 0.5)
    wanted.want(subscription("a/1"), 0)
    wanted.want(subscription("a/2"), 0)
    wanted.clear()
    assert len(wanted) == 0
    assert wanted.take(0) is None
