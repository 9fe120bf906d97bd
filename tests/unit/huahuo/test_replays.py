"""A signed request counts once, in whatever order requests arrive."""

from huahuo.cluster.request_signing import BEHIND_MAX, PROCESSES_MAX, Replays


def test_a_number_far_behind_the_newest_is_refused() -> None:
    replays = Replays()
    assert replays.is_new("p", BEHIND_MAX + 1, 0.0)
    assert not replays.is_new("p", 1, 0.0)
    assert replays.is_new("p", 2, 0.0)
    assert replays.is_new("q", 1, 0.0)


def test_processes_are_bounded() -> None:
    replays = Replays()
    for number in range(PROCESSES_MAX + 10):
        replays.is_new(str(number), 1, 0.0)
    assert len(replays) <= PROCESSES_MAX
