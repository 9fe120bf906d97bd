"""How many commands were answered, by action and outcome, and how long they and commits took.

Plain numbers, which become metrics at a scrape: the library's counter and histogram cost as much for each
command as parsing it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Times(Collector):
    """A histogram. `bounds_s`: the upper bounds of its buckets."""

    def __init__(self, name: str, text: str, bounds_s: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def took(self, seconds: float) -> None:
        """One more took this many seconds."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    def collect(self) -> Iterable[Metric]:
        """The histogram as a scrape shows it."""
        bounds = [*map(str, self._bounds_s), "+Inf"]
        family = HistogramMetricFamily(self._name, self._text)
        family.add_metric((), list(zip(bounds, accumulate(self._counts), strict=True)), self._sum_s)
        return [family]


class AnswerCounts(Collector):
    """How many commands were answered. `bounds_s`: see `Times`."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._answers: dict[tuple[str, str], int] = {}
        self._times = Times("huahuo_command_seconds", "Time to answer a command.", bounds_s)

    def count(self, action: str, outcome: str, seconds: float) -> None:
        """One more command was answered."""
        key = action, outcome
        self._answers[key] = self._answers.get(key, 0) + 1
        self._times.took(seconds)

    def collect(self) -> Iterable[Metric]:
        """The families."""
        labels = ("action", "outcome")
        answers = CounterMetricFamily("huahuo_commands", "Commands answered.", labels=labels)
        for key, count in self._answers.items():
            answers.add_metric(key, count)
        return [answers, *self._times.collect()]
