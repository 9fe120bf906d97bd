"""Between OpenTelemetry's contexts and the texts of places that the log carries."""

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags

from huahuo.actors.plugins.traceparent import Place, place_in


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
