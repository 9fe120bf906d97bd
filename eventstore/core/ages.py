"""The clock that command records are aged by: it may be late, but a wrong wall clock cannot hurry it.

Within a run it moves by the smaller of what the wall clock and the monotonic one moved; over a restart
by what the wall clock says, at most one hour. So a wall clock that jumps a week ahead forgets nothing,
and a machine that is switched off for a week keeps its records longer than promised. Pure.
"""

import msgspec

RESTART_STEP_MS_MAX = 3600 * 1000
NOTE_EVERY_MS = 60_000
_TICK_MS = 1000


class AgeNote(msgspec.Struct, frozen=True, array_like=True):
    """What the clock showed (`age_ms`) when the wall clock showed `wall_ms`."""

    age_ms: int
    wall_ms: int


class AgeClock:
    """Invariant: it never goes back, and never moves faster than the monotonic clock."""

    def __init__(self, note: AgeNote | None, wall_ms: int, monotonic_s: float) -> None:
        """Continue from `note`, or begin with the wall clock where there is none."""
        if note is None:
            self._age_ms = wall_ms
        else:
            self._age_ms = note.age_ms + min(max(wall_ms - note.wall_ms, 0), RESTART_STEP_MS_MAX)
        self._noted_ms = self._age_ms
        self._wall_ms = wall_ms
        self._monotonic_ms = monotonic_s * 1000

    def read(self, wall_ms: int, monotonic_s: float) -> int:
        """What it shows, now that the other two show this; it moves once a second."""
        monotonic_ms = monotonic_s * 1000
        if monotonic_ms - self._monotonic_ms >= _TICK_MS:
            # Over a whole second: the minimum of small, rounded steps would be too small.
            step_ms = int(min(wall_ms - self._wall_ms, monotonic_ms - self._monotonic_ms))
            self._age_ms += max(step_ms, 0)
            self._wall_ms, self._monotonic_ms = wall_ms, monotonic_ms
        return self._age_ms

    def note_due(self) -> AgeNote | None:
        """What should be noted with the next commit, if the last note is a minute old."""
        if self._age_ms - self._noted_ms < NOTE_EVERY_MS:
            return None
        return AgeNote(self._age_ms, self._wall_ms)

    def noted(self, note: AgeNote) -> None:
        """The commit with `note` is durable."""
        self._noted_ms = note.age_ms
