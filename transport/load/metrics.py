"""The service's metrics for Prometheus. One registry for each server, not the process-wide one.

Labels come from closed sets only (registered actions, known codes and outcomes), so that no client
can make the number of series grow.

What changes often is counted in plain numbers, which become metrics at a scrape: what connections wrote
(`Tally`), how many commands were answered, and how long they and commits took (`Times`). The library's
counter and histogram cost as much for each command as parsing it.
"""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.registry import Collector

from huahuo.transport.protocol.codes import CLOSES

__all__ = ["CONTENT_TYPE", "Metrics"]


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


class Tally:
    """See the module."""

    __slots__ = ("events", "size_bytes")

    def __init__(self) -> None:
        self.events = 0
        self.size_bytes = 0


_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Read(Collector):
    """Families that are made at a scrape."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._collect()


class Metrics:
    """Counters that the transport increments, and gauges that are computed at each scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.tally = tally = Tally()
        """What was written to connections."""
        self.total("events_delivered", "Events written to connections.", lambda: tally.events)
        self.total("bytes_sent", "Bytes of frames written to connections.", lambda: tally.size_bytes)
        self._resumes = self._counts("resumes", "Subscriptions begun, by outcome.", "outcome")
        self._ahead = self._counter(
            "cursor_ahead", "Cursors beyond the head of the log, or with a check that differs: an alarm."
        )
        self._closes = self._counter("closes", "Connections ended, by close code.", "code")
        self._auth = self._counts("authentications", "Authentications, by result.", "result")
        self._answers = self._counts("commands", "Commands answered.", "action", "outcome")
        self._answer_times = Times("huahuo_command_seconds", "Time to answer a command.", _LATENCY_S)
        self.registry.register(self._answer_times)
        commits = Times("huahuo_commit_seconds", "Time of one group commit of the log.", _LATENCY_S)
        self.registry.register(commits)
        self.committed = commits.took
        """The log committed a group, in this many seconds."""

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a number that is computed at each scrape: connections, log position, dead letters, actors."""
        Gauge(f"huahuo_{name}", text, registry=self.registry).set_function(value)

    def total(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a sum that only grows; it is counted elsewhere and read at each scrape."""
        self.registry.register(_Read(lambda: [CounterMetricFamily(f"huahuo_{name}", text, value=value())]))

    def command(self, action: str, outcome: str, seconds: float) -> None:
        """A registered command was answered. Implements `gate.Observe`."""
        self._answers[action, outcome] += 1
        self._answer_times.took(seconds)

    def delivered(self, events: int, size_bytes: int) -> None:
        """Frames with `events` events and `size_bytes` bytes were written."""
        self.tally.events += events
        self.tally.size_bytes += size_bytes

    def resumed(self, outcome: str) -> None:
        """A subscription began. `outcome` is one of PROTOCOL 3.1's."""
        self._resumes[outcome,] += 1

    def cursor_ahead(self) -> None:
        """A client was ahead of the log, or saw other events: history was lost or replaced."""
        self._ahead.inc()

    def closed(self, code: int) -> None:
        """A connection ended with `code`. All unknown codes share one label value."""
        self._closes.labels(str(int(code)) if code in CLOSES else "other").inc()

    def authenticated(self, result: str) -> None:
        """A token was checked. `result`: `ok` or the code of the failure."""
        self._auth[result,] += 1

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counts(self, name: str, text: str, *labels: str) -> Counts[tuple[str, ...]]:
        """Counters by values of labels, as plain numbers until a scrape: several are counted a sign-in."""
        counts = Counts[tuple[str, ...]]()

        def collect() -> Iterable[Metric]:
            family = CounterMetricFamily(f"huahuo_{name}", text, labels=labels)
            for values, count in counts.items():
                family.add_metric(values, count)
            return [family]

        self.registry.register(_Read(collect))
        return counts

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"huahuo_{name}", text, labels, registry=self.registry)
