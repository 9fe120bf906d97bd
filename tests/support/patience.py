"""How long a test waits for what must happen: only a failure comes near these deadlines.

A busy machine may take ten times as long as a quiet one, and that is no fault of the code.
"""

import time
from collections.abc import Callable

WITHIN_S = 60.0
"""For one thing."""
ALL_WITHIN_S = 4 * WITHIN_S
"""For all of a test that starts programs: before pytest ends it without a word (`pyproject.toml`)."""
_LOOK_S = 0.02


def until(true: Callable[[], bool], told: Callable[[], object] = str, within_s: float = WITHIN_S) -> None:
    """Ask again and again until it is so: for what another process does and nobody tells of.

    `told`: what is shown if it never is. An `OSError` is an answer too: "not yet".
    """
    end_s = time.monotonic() + within_s
    while not _is(true):
        assert time.monotonic() < end_s, told()
        time.sleep(_LOOK_S)


def _is(true: Callable[[], bool]) -> bool:
    try:
        return true()
    except OSError:
        return False
