"""A signed request counts once, in whatever order requests arrive."""

import random

from huahuo.cluster.request_signing import BEHIND_MAX, PROCESSES_MAX, WINDOW_MS, Replays


def test_each_number_of_a_process_counts_once_in_any_order() -> None:
    chance, replays = random.Random(4), Replays()
    numbers = list(range(1, BEHIND_MAX))
    chance.shuffle(numbers)
    assert all(replays.is_new("p", number, 0.0) for number in numbers)
    assert not any(replays.is_new("p", number, 0.0) for number in numbers)


def test_a_number_far_behind_the_newest_is_refused() -> None:
    replays = Replays()
    assert replays.is_new("p", BEHIND_MAX + 1, 0.0)
    assert not replays.is_new("p", 1, 0.0)
    assert replays.is_new("p", 2, 0.0)
    assert replays.is_new("q", 1, 0.0)


def test_a_process_is_remembered_as_long_as_its_requests_could_pass() -> None:
    replays, longest_s = Replays(), 2 * WINDOW_MS / 1000
    replays.is_new("p", 7, 0.0)
    assert not replays.is_new("p", 7, longest_s)
    replays.is_new("q", 1, 2 * longest_s + 1)
    assert len(replays) == 1


def test_processes_are_bounded() -> None:
    replays = Replays()
    for number in range(PROCESSES_MAX + 10):
        replays.is_new(str(number), 1, 0.0)
    assert len(replays) <= PROCESSES_MAX
