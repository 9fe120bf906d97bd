"""Why an event happened and what it caused: the chain of causes in both directions.

An event names the position of the event that caused it. The facts of one append count as one: the effects of
one of them are effects of all that are about the same entity.
"""

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.replay.history.history import PAGE_EVENTS_MAX, History, event_at, events_of

DEPTH_MAX: Final = 1_000
_APPEND_EVENTS_MAX: Final = 1 << 16


class Link(msgspec.Struct, frozen=True):
    """One append in a chain: an event, and its siblings, which it wrote about the same entity."""

    event: StoredEvent
    siblings: tuple[StoredEvent, ...]
    depth: int = 0

    @property
    def positions(self) -> frozenset[int]:
        """The positions of the event and its siblings."""
        return frozenset(e.position for e in (self.event, *self.siblings))


async def why(history: History, event: StoredEvent) -> list[Link]:
    """The chain of causes that ends with `event`, the first cause first.

    The chain begins at an event that names no cause, or whose cause was compacted away.
    """
    chain = [Link(event, await siblings(history, event))]
    while event.cause and len(chain) < DEPTH_MAX:
        if event.cause >= event.position:
            break
        cause = await event_at(history, event.cause)
        if cause is None:
            break
        event = cause
        chain.append(Link(event, await siblings(history, event)))
    chain.reverse()
    return [msgspec.structs.replace(link, depth=depth) for depth, link in enumerate(chain)]


async def effects(history: History, event: StoredEvent, *, limit: int) -> AsyncIterator[Link]:
    """The effects of `event`, in the order of the log, each with its depth; at most `limit`.

    Takes one pass over the log after the event.
    """
    first = Link(event, await siblings(history, event))
    depths = dict.fromkeys(first.positions, 0)
    found = 0
    upto = history.position
    async for later in events_of(history, LOG_STREAM, event.position, upto):
        depth = depths.get(later.cause) if later.cause else None
        if depth is None or later.position in first.positions:
            continue
        depths[later.position] = depth + 1
        yield Link(later, (), depth + 1)
        found += 1
        if found >= limit:
            return


async def siblings(history: History, event: StoredEvent) -> tuple[StoredEvent, ...]:
    """The other events of the same append about the same entity, of the same command.

    The log does not mark where an append begins. Neighbours with the same time, author, command and cause
    count as one append. Two appends that agree in all of these have the same origin anyway. Timers share
    appends, so between two events of one command there may be those of others, also ones compacted away.
    """
    around = [other async for other in _beside(_before(history, event.position), event)]
    upto = event.position + _APPEND_EVENTS_MAX
    later = events_of(history, LOG_STREAM, event.position, upto)
    return (*reversed(around), *[other async for other in _beside(later, event)])


async def _before(history: History, position: int) -> AsyncIterator[StoredEvent]:
    """The events before a position, the nearest first: few at once at first, as most appends are small."""
    high, count, least = position - 1, 8, max(0, position - 1 - _APPEND_EVENTS_MAX)
    while high > least:
        low = max(least, high - count)
        for event in reversed([event async for event in events_of(history, LOG_STREAM, low, high)]):
            yield event
        high, count = low, min(2 * count, PAGE_EVENTS_MAX)


async def _beside(events: AsyncIterator[StoredEvent], event: StoredEvent) -> AsyncIterator[StoredEvent]:
    """Those of one append and command with `event`, of `events` that lead away from it."""
    at = event.position
    async for other in events:
        gap = abs(other.position - at) > 1
        if not _same_append(other, event) or (gap and not event.command_id):
            return
        at = other.position
        if (other.entity, other.command_id) == (event.entity, event.command_id):
            yield other


def _same_append(one: StoredEvent, other: StoredEvent) -> bool:
    """Whether they may be of one append: of one command, or of two whose ids tell them apart."""
    named = bool(one.command_id) == bool(other.command_id)
    return named and (one.ts_ms, one.principal, one.cause, one.build) == (
        other.ts_ms,
        other.principal,
        other.cause,
        other.build,
    )
