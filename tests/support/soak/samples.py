"""What the service said that it holds, second by second, and how it rises."""

import asyncio
import statistics
import time
from collections.abc import Sequence

from bench.processes import Child

STILL = 5
"""As many seconds must pass without a change before what is left counts."""


MEMORY = ("memory", "but for pages")


class Samples:
    """See the module. `last`: the newest of it."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._under_load: list[tuple[float, dict[str, int]]] = []
        self._began_s = 0.0
        self.last: dict[str, int] = {}

    def take(self) -> None:
        """Hear what the service said, and keep the newest."""
        for said in self._child.heard():
            self.last = said
        if self._began_s and self.last:
            self._under_load.append((time.monotonic() - self._began_s, self.last))

    def begin(self) -> None:
        """From now on it is under load."""
        self._began_s = time.monotonic()

    def end(self) -> dict[str, float]:
        """The load is over: by how much each rose in a minute."""
        self._began_s = 0.0
        settled = self._under_load[len(self._under_load) // 5 :]
        minutes = [at_s / 60 for at_s, _ in settled]
        return {what: slope(minutes, [said[what] for _, said in settled]) for what in self.last}

    async def rest(self, seconds: float) -> None:
        """Wait for as long, and until nothing but memory has changed for some seconds; twice that at most."""
        began_s, same = time.monotonic(), 0
        while (took_s := time.monotonic() - began_s) < 2 * seconds and (took_s < seconds or same < STILL):
            before = _counts(self.last)
            await asyncio.sleep(1.0)
            self.take()
            same = same + 1 if _counts(self.last) == before else 0

    def table(self, before: dict[str, int], risen: dict[str, float]) -> str:
        """All that was seen, as text."""
        lines = [
            f"{'':13} {'base line':>10} {'load min':>10} {'load max':>10} {'a minute':>10} {'after':>10}"
        ]
        for what, base in before.items():
            seen = [said[what] for _, said in self._under_load]
            lines.append(
                f"{what:13} {base:>10,} {min(seen):>10,} {max(seen):>10,} {risen[what]:>+10.2f}"
                f" {self.last[what]:>10,}"
            )
        return "\n".join(lines)


def _counts(said: dict[str, int]) -> dict[str, int]:
    return {what: count for what, count in said.items() if what not in MEMORY}


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """By how much values rise for each 1 of `at`: the line of least squares. 0 of fewer than two."""
    if len(set(at)) <= 1:
        return 0.0
    return statistics.linear_regression(at, values).slope
