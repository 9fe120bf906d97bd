"""Which events are sent next, and which snapshots are taken."""

from huahuo.transport.protocol.frames import FrameCache
from huahuo.transport.session.delivery import Delivery
from huahuo.transport.session.delivery_states import (
    FAULTS_MAX,
    LONGEST_S,
    PATIENCE_S,
    RETRY_S,
    Subscription,
    Wanted,
)
from tests.support.drivers.session import ModelLog


def delivery(log: ModelLog, *, window: int = 500, frame_bytes_max: int = 1 << 18) -> Delivery:
    frames = FrameCache(bytes_max=1 << 20, frame_bytes_max=frame_bytes_max)
    return Delivery(log, frames, batched=True, window=window, past_max=4)


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
