"""Which events are sent next, and which snapshots are taken."""

from huahuo.transport.session.delivery_states import (
    Subscription,
    Wanted,
)


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
