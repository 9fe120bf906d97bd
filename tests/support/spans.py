"""Spans that a service under test has ended, and how to wait for one."""

import asyncio
from collections.abc import Sequence

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import Tracer

from tests.support.patience import WITHIN_S


class Kept(SpanProcessor):
    """The spans that ended, and `more` when another one has."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.more = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)
        self._loop.call_soon_threadsafe(self.more.set)

    async def until(self, name: str, count: int = 1) -> Sequence[ReadableSpan]:
        """Wait until there are `count` spans of this name, and return them."""
        async with asyncio.timeout(WITHIN_S):
            while len(found := [span for span in self.spans if span.name == name]) < count:
                self.more.clear()
                await self.more.wait()
        return found

    async def one(self, name: str) -> ReadableSpan:
        """The only span of this name."""
        (span,) = await self.until(name)
        return span


def kept_spans(monkeypatch: pytest.MonkeyPatch) -> tuple[Kept, Tracer]:
    """From now on the process traces: its spans, and a tracer for the program around the service."""
    kept = Kept()
    provider = TracerProvider()
    provider.add_span_processor(kept)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return kept, provider.get_tracer("program")


def below(span: ReadableSpan, parent: ReadableSpan) -> bool:
    """Whether a span is a child of another."""
    return (
        span.parent is not None
        and parent.context is not None
        and span.parent.span_id == parent.context.span_id
    )
