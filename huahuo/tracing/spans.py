"""The service's spans of commands whose id is a place in a trace (`traceparent`): command, commit, delivery.

A span `delivery` lasts from the commit to the ack of one client. It needs no word from the client but the ack
that it sends anyway. Commands with any other id cost one comparison of a length.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, Tracer

from huahuo.actors.plugins.calls import Call
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.tracing.traceparent import LENGTH, Place, place_in

KEPT_MAX: Final = 10_000
"""Traced events whose acks are waited for, over all streams. Beyond that, the oldest are forgotten."""
_NS_A_MS: Final = 1_000_000
_NS_A_S: Final = 1_000_000_000


class _Waiting(msgspec.Struct):
    """A committed event, and the clients that have acked it."""

    stream: str
    seq: int
    at_ns: int
    parent: Context
    clients: set[tuple[str, str]]


class Spans:
    """See the module. All methods belong to the loop's thread, are short, and never raise."""

    def __init__(self, tracer: Tracer, ambient: Ambient, *, kept_max: int = KEPT_MAX) -> None:
        self._tracer = tracer
        self._ambient = ambient
        self._kept_max = kept_max
        self._oldest: deque[_Waiting] = deque()
        self._by_stream: dict[str, deque[_Waiting]] = {}

    @property
    def waiting(self) -> int:
        """How many events wait for acks."""
        return len(self._oldest)

    def command(self, call: Call[object], outcome: str, seconds: float) -> None:
        """A command was answered."""
        place = _sampled(call.command_id)
        if place is None:
            return
        end_ns = self._now_ns()
        span = self._tracer.start_span(
            f"command {call.action}",
            context=_below(place),
            kind=SpanKind.SERVER,
            start_time=end_ns - round(seconds * _NS_A_S),
            attributes={"huahuo.outcome": outcome, "huahuo.user": call.principal.name},
        )
        span.end(end_ns)

    def committed(self, commit: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        """Events are durable: a tap of the feed."""
        for event in () if commit is None else commit.get(LOG_STREAM, ()):
            if len(event.command_id) == LENGTH and (place := _sampled(event.command_id)) is not None:
                self._commit(event, place)

    def acked(self, user: str, client: str, stream: str, seq: int) -> None:
        """A client has processed a stream up to `seq`."""
        waiting = self._by_stream.get(stream)
        if waiting is None:
            return
        who, end_ns = (user, client), self._now_ns()
        for one in reversed(waiting):
            if one.seq > seq:
                continue
            if who in one.clients:
                return  # and so are all before it
            one.clients.add(who)
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

    def _commit(self, event: StoredEvent, place: Place) -> None:
        end_ns = self._now_ns()
        span = self._tracer.start_span(
            f"commit {event.type}",
            context=_below(place),
            start_time=min(event.ts_ms * _NS_A_MS, end_ns),
            attributes={"huahuo.stream": event.stream, "huahuo.seq": event.seq},
        )
        span.end(end_ns)
        one = _Waiting(event.stream, event.seq, end_ns, trace.set_span_in_context(span), set())
        self._oldest.append(one)
        self._by_stream.setdefault(event.stream, deque()).append(one)
        if len(self._oldest) > self._kept_max:
            gone = self._oldest.popleft()
            left = self._by_stream[gone.stream]
            left.popleft()
            if not left:
                del self._by_stream[gone.stream]

    def _now_ns(self) -> int:
        return self._ambient.now_ms() * _NS_A_MS


def _sampled(command_id: str) -> Place | None:
    place = place_in(command_id)
    return place if place is not None and place.sampled else None


def _below(place: Place) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED)
    context = SpanContext(place.trace_id, place.span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(context))
