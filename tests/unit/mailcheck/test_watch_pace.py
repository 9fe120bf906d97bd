"""How often connections that wait in IDLE are looked at: soon with few of them, and at a bounded cost."""

import pytest

from huahuo.mailcheck.checks.backoff import Pace, renew_s


@pytest.mark.parametrize("watched", [1, 100, 800])
def test_up_to_eight_hundred_mailboxes_are_looked_at_each_minute(watched: int) -> None:
    assert 36.0 <= renew_s(Pace(), watched, watched, 1.0) <= renew_s(Pace(), watched, watched, 0.0) == 60.0


@pytest.mark.parametrize("there", [1, 1_000, 3_000, 10_000])
@pytest.mark.parametrize("watched", [10_000, 30_000])
def test_looks_are_bounded_at_one_server_and_in_all(there: int, watched: int) -> None:
    each_s = renew_s(Pace(renew_s=10_000.0), there, watched, 0.5)
    assert there / each_s < 17
    assert watched / each_s < 63


def test_no_idle_stands_longer_than_the_setting() -> None:
    assert renew_s(Pace(), 100_000, 100_000, 0.0) == 540.0
    assert renew_s(Pace(renew_s=30.0), 1, 1, 0.0) == 30.0
