"""Each user has a share of the loop: a user that used more waits, unless it is alone."""

import pytest

from huahuo.transport.load.shares import ALONE_S, FREE_S, LEAST_SHARE, SHARE, Shares


def storm(shares: Shares, users: int, seconds: float, step_s: float = 0.01) -> dict[str, float]:
    """The time that greedy users get, in parallel with a user that asks for little."""
    used = {f"user/{n}": 0.0 for n in range(users)}
    now_s = 0.0
    while now_s < seconds:
        shares.charge("user/calm", 0.000004, now_s)  # less than the share that 100 others leave
        assert shares.wait_s("user/calm", now_s) == 0
        now_s += 0.001
        for user in used:
            if shares.wait_s(user, now_s) == 0:
                now_s += step_s
                used[user] += step_s
                shares.charge(user, step_s, now_s)
    return used


def test_a_user_who_is_alone_never_waits() -> None:
    shares = Shares()
    for second in range(10):
        shares.charge("user/1", 1.0, second)
        assert shares.wait_s("user/1", second) == 0


def test_what_is_free_has_no_consequences() -> None:
    shares = Shares()
    shares.charge("user/2", 0.001, 0)
    shares.charge("user/1", FREE_S, 0)
    assert shares.wait_s("user/1", 0) == 0


def test_a_user_over_its_share_waits_until_that_is_paid() -> None:
    shares = Shares()
    shares.charge("user/2", 0.001, 0)
    shares.charge("user/1", FREE_S + 0.1, 0)
    wait_s = shares.wait_s("user/1", 0)
    assert wait_s == pytest.approx(0.1 / SHARE)
    assert shares.wait_s("user/1", wait_s + 0.001) == 0


def test_one_user_who_storms_gets_the_share_and_no_more() -> None:
    used = storm(Shares(), 1, 20)
    assert sum(used.values()) / 20 == pytest.approx(SHARE, rel=0.1)


def test_a_hundred_users_who_storm_share_it_and_none_is_starved() -> None:
    used = storm(Shares(), 100, 60)
    assert min(used.values()) > 0.5 * max(used.values())


def test_users_who_left_take_no_part_of_the_share() -> None:
    shares = Shares()
    for number in range(50):
        shares.charge(f"user/{number}", 0.3, 0)
    assert shares.over == 50
    for step in range(2000):
        shares.charge("user/calm", 0.0001, 50 + step / 100)
    assert shares.over == 0


def test_a_user_is_alone_again_when_the_others_have_been_quiet() -> None:
    shares = Shares()
    shares.charge("user/2", 0.001, 0)
    shares.charge("user/1", 1.0, 0)
    assert shares.wait_s("user/1", 0) > 0
    assert shares.wait_s("user/1", ALONE_S) == 0


def test_a_user_who_wants_little_is_not_slowed_by_a_hundred_who_want_much() -> None:
    shares = Shares()
    for tick in range(100):
        now_s = tick * 0.02
        for user in range(100):
            shares.charge(f"user/{user}", 0.01, now_s)
        assert shares.wait_s("user/modest", now_s) == 0
        shares.charge("user/modest", 0.9 * LEAST_SHARE * 0.02, now_s)
