"""The clock that ages command records: it may be slow, but a wrong wall clock cannot make it fast. Pure.

Within a run it moves by the smaller of what the wall clock and the monotonic clock moved; over a restart
by what the wall clock moved, at most one hour. So if the wall clock jumps a week ahead, no record is
forgotten early. A machine that is switched off for a week keeps its records longer than promised.

The first commit of a log writes its note, so no record is there without one: a restart would begin with
whatever the wall clock shows then.
"""

import msgspec

RESTART_STEP_MS_MAX = 3600 * 1000
NOTE_EVERY_MS = 60_000
_TICK_MS = 1000


class AgeNote(msgspec.Struct, frozen=True, array_like=True):
    """The time of this clock (`age_ms`) when the wall clock showed `wall_ms`."""

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
        self._noted_ms = None if note is None else self._age_ms
        self._wall_ms = wall_ms
        self._monotonic_ms = monotonic_s * 1000

    def read(self, wall_ms: int, monotonic_s: float) -> int:
        """The time of this clock, given that of the other two. It moves once a second."""
        monotonic_ms = monotonic_s * 1000
        if monotonic_ms - self._monotonic_ms >= _TICK_MS:
            # Not more often: the minimum of small, rounded steps would be too small.
            step_ms = int(min(wall_ms - self._wall_ms, monotonic_ms - self._monotonic_ms))
            self._age_ms += max(step_ms, 0)
            self._wall_ms, self._monotonic_ms = wall_ms, monotonic_ms
        return self._age_ms

    def note_due(self) -> AgeNote | None:
        """The note to write with the next commit; None while the last one is less than a minute old."""
        if self._noted_ms is not None and self._age_ms - self._noted_ms < NOTE_EVERY_MS:
            return None
        return AgeNote(self._age_ms, self._wall_ms)

    def noted(self, note: AgeNote) -> None:
        """Record that the commit with `note` is durable."""
        self._noted_ms = note.age_ms
