"""Traces of a service that the setting `otel` asks for. Without it, none of this is imported."""

import asyncio

from huahuo.app.stopping import Parts
from huahuo.eventstore.ambient import Ambient
from huahuo.replay.live.feed import Feed
from huahuo.transport.commands.gate import Gate
from huahuo.transport.server.hub import Hub


def trace(gate: Gate, hub: Hub, feed: Feed, ambient: Ambient, parts: Parts) -> None:
    """Make spans of commands, commits and acks from now on.

    Raises:
        ConfigError: the packages of the extra `otel` are not installed.
    """
    from huahuo.tracing.exporting import spans_of_service

    spans, end = spans_of_service(ambient)
    parts.add("export of traces", lambda: asyncio.to_thread(end))  # it sends what is left
    parts.add("tracing", feed.tap(spans.committed))
    gate.traced = spans.command
    hub.told_ack = spans.acked
