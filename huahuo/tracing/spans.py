"""The service's spans of commands whose id is a place in a trace: command, timer, commit, delivery.

A span `delivery` lasts from the commit to the ack of one client. It needs no word from the client but the ack
that it sends anyway. Commands with any other id cost one comparison of a length.

A span `timer` is made of the event that records the firing, which carries the place of the command that set
the timer, so it needs no word from the timers. Firings of an `Every` begin traces of their own, with a link.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Tracer

from huahuo.actors.plugins.calls import Call
from huahuo.actors.plugins.traceparent import LENGTH
from huahuo.actors.timers.timer import FIRED, STREAMS, TimerFired
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.tracing.places import below, context_of, sampled
from huahuo.tracing.works import Works

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
    """See the module. All methods belong to the loop's thread, are short, and never raise."""

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
