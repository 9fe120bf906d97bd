"""The clock that ages command records is never ahead of true time, whatever the wall clock does."""

from hypothesis import given
from hypothesis import strategies as st

from huahuo.eventstore.core.command_records import AgeClock

DAY_MS = 24 * 3600 * 1000


@given(st.lists(st.tuples(st.floats(0, 10_000), st.integers(-10 * DAY_MS, 10 * DAY_MS)), max_size=30))
def test_it_never_goes_back_and_never_moves_faster_than_the_monotonic_clock(
    steps: list[tuple[float, int]],
) -> None:
    start_ms = wall_ms = 1000 * DAY_MS
    clock = AgeClock(None, wall_ms, 0.0)
    monotonic_s, before = 0.0, wall_ms
    for passed_s, jump_ms in steps:
        monotonic_s += passed_s
        wall_ms += jump_ms
        now = clock.read(wall_ms, monotonic_s)
        assert before <= now <= start_ms + monotonic_s * 1000 + 1
        before = now
