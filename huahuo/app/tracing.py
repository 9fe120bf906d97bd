"""Traces of a service that the setting `otel` asks for. Without it, none of this is imported."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from huahuo.actors.plugins.plugin import Brought
from huahuo.app.stopping import Parts
from huahuo.eventstore.ambient import Ambient
from huahuo.replay.live.feed import Feed
from huahuo.transport.commands.gate import Gate
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.server.hub import Hub

if TYPE_CHECKING:
    from huahuo.tracing.works import Works


def trace(
    gate: Gate,
    hub: Hub,
    feed: Feed,
    publisher: Publisher,
    brought: Iterable[Brought],
    ambient: Ambient,
    parts: Parts,
) -> "Works":
    """Make spans of commands, commits, acks, timers and effects from now on.

    Returns what makes those of jobs.

    Raises:
        ConfigError: the packages of the extra `otel` are not installed.
    """
    from huahuo.tracing.exporting import spans_of_service
    from huahuo.tracing.places import here

    spans, end = spans_of_service(ambient)
    parts.add("export of traces", lambda: asyncio.to_thread(end))  # it sends what is left
    parts.add("tracing", feed.tap(spans.committed))
    gate.traced = spans.command
    hub.told_ack = spans.acked
    publisher.here = here
    for one in brought:
        one.trace(spans.works)
    return spans.works
