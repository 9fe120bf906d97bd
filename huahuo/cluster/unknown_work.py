"""What the work has that this node's code does not know, and when it does its part again. Pure.

While newer code is at work, such a thing comes and goes. So a node that left the work comes back only after
it has known all of it for a while, and after a longer while each time that it had to leave again.
"""

from typing import Final

LOOK_S: Final = 10.0
"""How often it is looked whether this node's code knows all."""
QUIET_S: Final = 60.0
QUIET_MAX_S: Final = 3_600.0
"""For how long all must have been known, the first time and at most."""


class UnknownWork:
    """See the module. `reason`: the first thing that is not known, "" if all is."""

    def __init__(self) -> None:
        self.reason = ""
        self._looked_s = self._lacked_s = 0.0
        """When it was looked last, and when something was not known last."""
        self._quiet_s = QUIET_S
        self._came_back = False

    def found(self, reason: str, now_s: float) -> None:
        """This is not known: the node leaves the work."""
        self.reason = reason
        self._looked_s = self._lacked_s = now_s
        self._quiet_s = min(2 * self._quiet_s, QUIET_MAX_S) if self._came_back else QUIET_S
        self._came_back = False

    def look_due(self, now_s: float) -> bool:
        """Whether to look now if it is over. The next time is counted from now."""
        if not self.reason or now_s - self._looked_s < LOOK_S:
            return False
        self._looked_s = now_s
        return True

    def still(self, reason: str, now_s: float) -> None:
        """That look found that this is not known."""
        self.reason, self._lacked_s = reason, now_s

    def comes_back(self, now_s: float) -> bool:
        """That look found nothing. True: the node does its part again."""
        if now_s - self._lacked_s < self._quiet_s:
            return False
        self.reason, self._came_back = "", True
        return True

    def forget(self) -> None:
        """An operator says that the node may do its part again."""
        self.reason, self._came_back = "", False
