"""How many commands were answered, by action and outcome, and how long they took.

Plain numbers, which become metrics at a scrape: the library's counter and histogram cost as much for each
command as parsing it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class AnswerCounts(Collector):
    """See the module. `bounds_s`: the upper bounds of the histogram's buckets."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = bounds_s
        self._answers: dict[tuple[str, str], int] = {}
        self._took = [0] * (len(bounds_s) + 1)
        self._took_s = 0.0

    def count(self, action: str, outcome: str, seconds: float) -> None:
        """One more command was answered."""
        key = action, outcome
        self._answers[key] = self._answers.get(key, 0) + 1
        self._took[bisect_left(self._bounds_s, seconds)] += 1
        self._took_s += seconds

    def collect(self) -> Iterable[Metric]:
        """The families."""
        labels = ("action", "outcome")
        answers = CounterMetricFamily("huahuo_commands", "Commands answered.", labels=labels)
        for key, count in self._answers.items():
            answers.add_metric(key, count)
        bounds = [*map(str, self._bounds_s), "+Inf"]
        took = HistogramMetricFamily("huahuo_command_seconds", "Time to answer a command.")
        took.add_metric((), list(zip(bounds, accumulate(self._took), strict=True)), self._took_s)
        return [answers, took]
