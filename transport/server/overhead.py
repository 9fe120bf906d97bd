"""The factor by which work costs more than the part of it that is measured. Pure.

What is done for a user is measured where that is easy: decisions, commits, answers. Reading sockets,
waking tasks and system calls come on top, for small messages as much again. So ten times a second the
processor time of the whole process is compared with what was charged, and charges are multiplied by
what was missed.
"""

from typing import Final

LOOK_S: Final = 0.1
FACTOR_MAX: Final = 4.0
"""What has nothing to do with anybody's requests must not fall on a few."""
_CHARGED_SHARE_MIN: Final = 0.1
"""Of the time: where hardly anything is charged, the rest is not the overhead of that."""


class Overhead:
    """See the module. Invariant: 1 <= `factor` <= `FACTOR_MAX`."""

    def __init__(self, now_s: float, process_s: float) -> None:
        self.factor = 1.0
        self.due_s = now_s + LOOK_S
        self._now_s = now_s
        self._process_s = process_s
        self._charged_s = 0.0

    def charged(self, cost_s: float) -> float:
        """What to charge for something that was measured to cost `cost_s`."""
        self._charged_s += cost_s
        return cost_s * self.factor

    def look(self, now_s: float, process_s: float) -> None:
        """Compute `factor` again from the processor time used by the process. Call it from `due_s` on."""
        spent_s, passed_s, charged_s = process_s - self._process_s, now_s - self._now_s, self._charged_s
        found = spent_s / charged_s if charged_s > _CHARGED_SHARE_MIN * passed_s else 1.0
        self.factor = (self.factor + min(max(found, 1.0), FACTOR_MAX)) / 2
        self._now_s, self._process_s, self._charged_s = now_s, process_s, 0.0
        self.due_s = now_s + LOOK_S
