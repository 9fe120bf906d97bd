"""Spans of what goes on after a command: runs of effects, and jobs.

They carry the place of their command over restarts: an effect in its row, a job in its first event. What a
run or a job says has the place of its span as command id, so commits and deliveries of that are below it. A
run knows the run before it, also one of an earlier process, by the id of that one's claim: it has a link.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, Tracer

from huahuo.actors.effects.line import Entry
from huahuo.actors.plugins.traceparent import place_in
from huahuo.tracing.places import below, context_of, text_of


class EffectSpan:
    """See `huahuo.actors.effects.traced.RunSpan`. The handler runs inside of it: its own spans are below."""

    def __init__(self, span: Span, entry: Entry, tracer: Tracer, now_ns: Callable[[], int]) -> None:
        self.place = text_of(span)
        self._tracer = tracer
        self._span = span
        self._entry = entry
        self._now_ns = now_ns
        self._token = context.attach(trace.set_span_in_context(span))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """See `RunSpan`. Of an exception only the class is told: its text may hold what a server said."""
        span = self._tracer.start_span(name, start_time=self._now_ns())
        token = context.attach(trace.set_span_in_context(span))
        try:
            yield
        except BaseException as error:
            span.set_attribute("huahuo.error", type(error).__name__)
            raise
        finally:
            context.detach(token)
            span.end(self._now_ns())

    def end(self, outcome: str) -> None:
        """See `RunSpan`."""
        if (before := place_in(self._entry.before)) is not None:
            self._span.add_link(context_of(before))
        self._span.set_attribute("huahuo.outcome", outcome)
        self._span.end(self._now_ns())
        context.detach(self._token)


class JobSpan:
    """A job of the application from its beginning to its end."""

    def __init__(self, span: Span, now_ns: Callable[[], int]) -> None:
        self.place = text_of(span)
        self._span = span
        self._now_ns = now_ns

    def end(self, outcome: str) -> None:
        """It has ended."""
        self._span.set_attribute("huahuo.outcome", outcome)
        self._span.end(self._now_ns())


class Works:
    """Makes these spans. `now_ns`: the service's wall clock."""

    def __init__(self, tracer: Tracer, now_ns: Callable[[], int]) -> None:
        self._tracer = tracer
        self._now_ns = now_ns

    def run(self, entry: Entry) -> EffectSpan:
        """See `huahuo.actors.effects.traced.TracesRuns`."""
        place = place_in(entry.trace)
        assert place is not None, "runs without a place are not told"
        span = self._tracer.start_span(
            f"effect {entry.spec.name}",
            context=below(place),
            start_time=self._now_ns(),
            attributes={"huahuo.entity": entry.entity, "huahuo.effect": entry.id},
        )
        return EffectSpan(span, entry, self._tracer, self._now_ns)

    def job(self, name: str) -> JobSpan:
        """A job begins, below the span that the caller is in."""
        span = self._tracer.start_span(f"job {name}", kind=SpanKind.INTERNAL, start_time=self._now_ns())
        return JobSpan(span, self._now_ns)
