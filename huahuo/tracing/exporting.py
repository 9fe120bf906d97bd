"""The tracer of a service: that of the program around it, else one that exports as `OTEL_…` variables say."""

from collections.abc import Callable

from huahuo.build import BUILD
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.tracing.spans import Spans


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
