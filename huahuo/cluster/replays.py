"""Whether a signed request came before. Pure.

Each asking process numbers its requests. Of each process, the highest number and which of the numbers below
it came are kept, as IPsec does (RFC 4303, 3.4.3). A process that is not known must be of now, by its clock;
one is forgotten when none of its requests could pass as new any more.
"""

from collections import OrderedDict
from typing import Final

WINDOW_MS: Final = 900_000
"""How far the clocks of two nodes may be apart: more than a clock that is five minutes off."""
BEHIND_MAX: Final = 1024
"""Requests of a process that may overtake one."""
PROCESSES_MAX: Final = 10_000


class Replays:
    """See the module."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, int, float]] = OrderedDict()
        """By process: its highest number, which of the last ones came, and when (`monotonic_s`)."""

    def __len__(self) -> int:
        return len(self._known)

    def is_new(self, process: str, number: int, now_s: float) -> bool:
        """Note a request. False: it came before, or is too old to tell."""
        self._forget(now_s)
        highest, came, _ = self._known.get(process, (0, 0, 0.0))
        if number > highest:
            moved = number - highest
            came = (came << moved | 1) & ((1 << BEHIND_MAX) - 1) if moved < BEHIND_MAX else 1
            highest = number
        else:
            bit = 1 << (highest - number)
            if highest - number >= BEHIND_MAX or came & bit:
                return False
            came |= bit
        self._known[process] = (highest, came, now_s)
        self._known.move_to_end(process)
        return True

    def _forget(self, now_s: float) -> None:
        """A request that was signed at `t` passes until `t` + 2 windows, by the clock that is most behind."""
        while self._known:
            process, (_, _, at_s) = next(iter(self._known.items()))
            if now_s - at_s <= 2 * WINDOW_MS / 1000 and len(self._known) < PROCESSES_MAX:
                return
            del self._known[process]
