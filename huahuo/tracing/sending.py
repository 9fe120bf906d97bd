"""The sender's side: a span around one command, whose place in the trace is the command's id.

    with sending("place_order") as command_id:
        await client.request("place_order", {"item": "tea"}, command_id=command_id)

The id is stored with every event that the command causes, so a program that reads them later, in another
process and after restarts, knows the trace. Give the same id to a retry: it is the same command.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from huahuo.actors.plugins.calls import Place


@contextmanager
def sending(action: str) -> Iterator[str]:
    """A span for a command, below the present one; its value is the command's id."""
    tracer = trace.get_tracer("huahuo")
    with tracer.start_as_current_span(f"send {action}", kind=SpanKind.PRODUCER) as span:
        found = span.get_span_context()
        if not found.is_valid:
            raise RuntimeError("no tracer is set up: call opentelemetry.trace.set_tracer_provider first")
        yield str(Place(found.trace_id, found.span_id, found.trace_flags.sampled))
