"""The service's spans: commands that are traced, timers, commits, deliveries, effects and jobs.

A command is traced if its id is a place in a trace.

A span `delivery` lasts from the commit to the ack of one client. It needs no word from the client but the
ack that it sends anyway. Commands with any other id cost one comparison of a length. A span `timer` is
made of the event that records the firing, which carries the place of the command that set the timer.

Effects and jobs carry the place of their command over restarts: an effect in its row, a job in its first
event. What they say has the place of their span as command id, so commits and deliveries of that are
below it. A run has a link to the run before it, also one of an earlier process, by the id of that one's
claim.

The tracer is that of the program around the service, else one that exports as `OTEL_…` variables say.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer

from huahuo.actors.effects.queue import Entry
from huahuo.actors.plugins.calls import LENGTH, Call, Place, place_in
from huahuo.actors.timers.timer import FIRED, STREAMS, TimerFired
from huahuo.build import BUILD
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import LOG_STREAM, StoredEvent


def below(place: Place) -> Context:
    """The context of a span's children."""
    return trace.set_span_in_context(NonRecordingSpan(context_of(place)))


def context_of(place: Place) -> SpanContext:
    """A span that another process may have made."""
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(place.trace_id, place.span_id, is_remote=True, trace_flags=flags)


def text_of(span: Span) -> str:
    """The place of a span, "" if it is not recorded."""
    found = span.get_span_context()
    if not found.is_valid or not found.trace_flags.sampled:
        return ""
    return str(Place(found.trace_id, found.span_id, sampled=True))


def here() -> str:
    """The place of the span that the caller is in, "" if it is in none that is recorded."""
    return text_of(trace.get_current_span())


def sampled(text: str) -> Place | None:
    """The place that a text names, None if it is another text, or the span is not recorded."""
    place = place_in(text)
    return place if place is not None and place.sampled else None


class EffectSpan:
    """See `huahuo.actors.effects.run.RunSpan`. The handler runs inside of it: its own spans are below."""

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
        """See `huahuo.actors.effects.run.TracesRuns`."""
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


KEPT_MAX: Final = 10_000
"""Traced events whose acks are waited for, over all streams. Beyond that, the oldest are forgotten."""
ACKS_MAX: Final = 100_000
"""Acks that are remembered, over all these events. Beyond that, the oldest events are forgotten. An event
with all of them makes no further spans.
"""
_NEVER_ACKED: Final = ("effect/", STREAMS)
"""Streams that no client reads."""
_NS_A_MS: Final = 1_000_000
_NS_A_S: Final = 1_000_000_000
_decode_fired: Final = msgspec.json.Decoder(TimerFired).decode


class _Waiting(msgspec.Struct):
    """A committed event, and the clients that have acked it."""

    stream: str
    seq: int
    at_ns: int
    parent: Context
    clients: set[tuple[str, str]]


class Spans:
    """The service's spans of commands whose id is a place in a trace: command, timer, commit, delivery.

    All methods belong to the loop's thread, are short, and never raise.
    """

    def __init__(
        self, tracer: Tracer, ambient: Ambient, *, kept_max: int = KEPT_MAX, acks_max: int = ACKS_MAX
    ) -> None:
        self._tracer = tracer
        self._ambient = ambient
        self._kept_max = kept_max
        self._acks_max = acks_max
        self._acks = 0
        self.works = Works(tracer, self._now_ns)
        self._oldest: deque[_Waiting] = deque()
        self._by_stream: dict[str, deque[_Waiting]] = {}

    @property
    def waiting(self) -> int:
        """How many events wait for acks."""
        return len(self._oldest)

    def command(self, call: Call[object], outcome: str, seconds: float) -> None:
        """A command was answered."""
        place = sampled(call.command_id)
        if place is None:
            return
        end_ns = self._now_ns()
        span = self._tracer.start_span(
            f"command {call.action}",
            context=below(place),
            kind=SpanKind.SERVER,
            start_time=end_ns - round(seconds * _NS_A_S),
            attributes={"huahuo.outcome": outcome, "huahuo.user": call.principal.name},
        )
        span.end(end_ns)

    def committed(self, commit: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        """Events are durable: a tap of the feed."""
        events = () if commit is None else commit.get(LOG_STREAM, ())
        fired: dict[str, Context] = {}
        for event in events:
            if event.type == FIRED and event.stream.startswith(STREAMS):
                self._fired(event, fired)
        for event in events:
            if len(event.command_id) == LENGTH and (place := sampled(event.command_id)) is not None:
                self._commit(event, below(place))
            elif fired and event.command_id in fired:
                self._commit(event, fired[event.command_id])

    def acked(self, user: str, client: str, stream: str, seq: int) -> None:
        """A client has processed a stream up to `seq`."""
        waiting = self._by_stream.get(stream)
        if waiting is None:
            return
        who, end_ns = (user, client), self._now_ns()
        for one in reversed(waiting):
            if one.seq > seq:
                continue
            if who in one.clients or self._acks >= self._acks_max:
                return  # and so are all before it
            one.clients.add(who)
            self._acks += 1
            span = self._tracer.start_span(
                f"delivery {stream.partition('/')[0]}",
                context=one.parent,
                kind=SpanKind.CONSUMER,
                start_time=one.at_ns,
                attributes={
                    "huahuo.stream": stream,
                    "huahuo.seq": one.seq,
                    "huahuo.user": user,
                    "huahuo.client": client,
                },
            )
            span.end(end_ns)

    def _fired(self, event: StoredEvent, fired: dict[str, Context]) -> None:
        """Make the span of a traced firing, and note it as parent of what has its command's id."""
        if b'"trace":' not in event.body:
            return
        fact = _decode_fired(event.body)
        place = sampled(fact.trace or "")
        if place is None:
            return
        end_ns = self._now_ns()
        span = self._tracer.start_span(
            f"timer {fact.name}",
            context=Context() if fact.next_ms else below(place),
            links=[Link(context_of(place))] if fact.next_ms else None,
            start_time=min(fact.due_ms * _NS_A_MS, end_ns),
            attributes={"huahuo.entity": event.entity, "huahuo.due_ms": fact.due_ms},
        )
        span.end(end_ns)
        fired[event.command_id] = trace.set_span_in_context(span)

    def _commit(self, event: StoredEvent, parent: Context) -> None:
        end_ns = self._now_ns()
        span = self._tracer.start_span(
            f"commit {event.type}",
            context=parent,
            start_time=min(event.ts_ms * _NS_A_MS, end_ns),
            attributes={"huahuo.stream": event.stream, "huahuo.seq": event.seq},
        )
        span.end(end_ns)
        if event.stream.startswith(_NEVER_ACKED):
            return
        one = _Waiting(event.stream, event.seq, end_ns, trace.set_span_in_context(span), set())
        self._oldest.append(one)
        self._by_stream.setdefault(event.stream, deque()).append(one)
        while len(self._oldest) > self._kept_max or (self._acks >= self._acks_max and len(self._oldest) > 1):
            gone = self._oldest.popleft()
            self._acks -= len(gone.clients)
            left = self._by_stream[gone.stream]
            left.popleft()
            if not left:
                del self._by_stream[gone.stream]

    def _now_ns(self) -> int:
        return self._ambient.now_ms() * _NS_A_MS


def spans_of_service(ambient: Ambient) -> tuple[Spans, Callable[[], None]]:
    """The spans, and what ends the export.

    Raises:
        ConfigError: the packages of the extra `otel` are not installed.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError(
            "the setting otel needs packages that are not installed: pip install 'huahuo[otel]'"
        ) from error
    given = trace.get_tracer_provider()
    if not isinstance(given, trace.ProxyTracerProvider):  # the program has its own, and ends it
        return Spans(given.get_tracer("huahuo", BUILD), ambient), lambda: None
    provider = TracerProvider(resource=Resource.create({"service.name": "huahuo"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider.get_tracer("huahuo", BUILD), ambient), provider.shutdown
