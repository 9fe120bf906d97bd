"""The clock that ages command records is never ahead of true time, whatever the wall clock does."""

from hypothesis import given
from hypothesis import strategies as st

from huahuo.eventstore.core.command_records import NOTE_EVERY_MS, AgeClock, AgeNote

DAY_MS = 24 * 3600 * 1000


def test_it_is_noted_with_the_first_commit_of_a_log() -> None:
    clock = AgeClock(None, DAY_MS, 0.0)
    note = clock.note_due()
    assert note == AgeNote(DAY_MS, DAY_MS)
    assert clock.note_due() == note, "that commit failed"
    clock.noted(note)
    assert clock.note_due() is None


def test_it_is_noted_once_a_minute() -> None:
    clock = AgeClock(AgeNote(DAY_MS, DAY_MS), DAY_MS, 0.0)
    assert clock.note_due() is None
    clock.read(DAY_MS + NOTE_EVERY_MS, 60.0)
    note = clock.note_due()
    assert note == AgeNote(DAY_MS + NOTE_EVERY_MS, DAY_MS + NOTE_EVERY_MS)
    clock.noted(note)
    assert clock.note_due() is None


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
