"""Finds the highest rate that a server bears, by trying rates."""

import math
from collections.abc import Callable

_STEP = 4.0
_NEAR = 1.15
"""The search ends when the lowest rate that failed is at most this many times the highest that did not."""


def highest_rate(bearable: Callable[[float], bool | None], first: float, *, tries_max: int) -> float:
    """The highest rate found that is bearable, 0 if none was.

    `bearable`: None if the server is no longer fit to be asked. A rate is unbearable after two
    failures, because another process may have had the core for a moment.
    """
    best, worst, rate = 0.0, math.inf, first
    for _ in range(tries_max):
        answer = bearable(rate)
        if answer is False:
            answer = bearable(rate)
        if answer is None:
            break
        if answer:
            best = rate
        else:
            worst = rate
        if worst <= best * _NEAR:
            break
        if math.isinf(worst):
            rate *= _STEP
        else:
            rate = math.sqrt(best * worst) if best else worst / _STEP
    return best
