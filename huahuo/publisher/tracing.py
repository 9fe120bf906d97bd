"""Calls of a program that traces with OpenTelemetry are traced; any other program pays a look into a dict."""

import sys
from contextlib import AbstractContextManager


def traced(action: str) -> AbstractContextManager[str] | None:
    """A span around one call, below the one that the caller is in. Its value is the command's id.

    None: the program does not trace, or this span is not recorded.
    """
    if (trace := sys.modules.get("opentelemetry.trace")) is None:
        return None
    if not trace.get_current_span().get_span_context().trace_flags.sampled:
        return None
    from huahuo.tracing.sending import sending

    return sending(action)
