"""Which events are sent next, and which snapshots are taken."""

from huahuo.transport.protocol.frames import FrameCache
from huahuo.transport.session.delivery import Delivery
from huahuo.transport.session.delivery_states import (
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
