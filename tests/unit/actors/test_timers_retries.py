"""A firing that fails again waits longer each time, and the number of those that wait has a bound."""

from huahuo.actors.timers.timer import Timer
from huahuo.actors.timers.window import Retries


def _timer(name: str) -> Timer:
    return Timer("bell/a", name, 10, "ring", b"{}")


def _retries(count_max: int = 2) -> Retries:
    return Retries(count_max=count_max, first_s=1.0, longest_s=3.0)


def test_each_failure_of_a_timer_doubles_its_wait_up_to_the_longest() -> None:
    retries, timer = _retries(), _timer("a")
    waits_s = []
    for _ in range(4):
        waits_s.append(retries.add(b"a", timer, 0.0))
        assert retries.pop(10.0) == timer
    assert waits_s == [1.0, 2.0, 3.0, 3.0]


def test_a_timer_that_worked_waits_as_after_a_first_failure() -> None:
    retries = _retries()
    assert retries.add(b"a", _timer("a"), 0.0) == 1.0
    retries.succeeded(b"a")
    assert retries.add(b"a", _timer("a"), 0.0) == 1.0


def test_the_first_that_is_due_comes_first_and_none_before_its_time() -> None:
    retries = _retries()
    retries.add(b"a", _timer("a"), 5.0)
    retries.add(b"b", _timer("b"), 0.0)
    assert retries.pop(0.5) is None
    assert retries.pop(1.0) == _timer("b")
    assert retries.pop(1.0) is None


def test_a_failure_without_room_is_forgotten() -> None:
    retries = _retries(count_max=1)
    retries.add(b"a", _timer("a"), 0.0)
    assert retries.add(b"b", _timer("b"), 0.0) is None
    assert b"b" not in retries.failures
