"""Why an event happened and what came of it: the chain of causes, up and down.

An event names the position of the event that caused it. Facts written by one append stand together:
what one of them caused, the others about the same entity caused too.
"""

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.replay.history.history import History, event_at, events_of

DEPTH_MAX: Final = 1_000
_APPEND_EVENTS_MAX: Final = 1 << 16


class Link(msgspec.Struct, frozen=True):
    """One append in a chain: the event in question and what was written with it about its entity."""

    event: StoredEvent
    siblings: tuple[StoredEvent, ...]
    depth: int = 0

    @property
    def positions(self) -> frozenset[int]:
        """Of the event and its siblings."""
        return frozenset(e.position for e in (self.event, *self.siblings))


async def why(history: History, event: StoredEvent) -> list[Link]:
    """The chain of causes that ends with `event`, the first cause first.

    A cause lies before what it causes; the chain ends where none is named, or it is not kept any more.
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
    """What came of `event`, in the order of the log, each with its depth; at most `limit`.

    One pass over the log behind the event.
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
    """The other events of the same append about the same entity.

    The log does not mark where an append begins. Neighbours with the same time, author, command and
    cause are taken for one: two appends that agree in all of that tell of one thing anyway.
    """
    around = [other async for other in _neighbours(history, event) if other.entity == event.entity]
    return tuple(sorted(around, key=lambda e: e.position))


async def _neighbours(history: History, event: StoredEvent) -> AsyncIterator[StoredEvent]:
    position = event.position
    for _ in range(_APPEND_EVENTS_MAX):
        position -= 1
        before = await event_at(history, position) if position > 0 else None
        if before is None or not _same_append(before, event):
            break
        yield before
    after = event.position
    async for later in events_of(history, LOG_STREAM, after, after + _APPEND_EVENTS_MAX):
        if later.position != after + 1 or not _same_append(later, event):
            return
        after = later.position
        yield later


def _same_append(one: StoredEvent, other: StoredEvent) -> bool:
    return (one.ts_ms, one.principal, one.command_id, one.cause, one.build) == (
        other.ts_ms,
        other.principal,
        other.command_id,
        other.cause,
        other.build,
    )
