"""Pruning events: they become tombstones, and a receipt in the same commit vouches for them."""

from collections.abc import Sequence
from typing import Protocol

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.receipts import receipt
from huahuo.eventstore.limits import PRUNE_EVENTS_MAX
from huahuo.eventstore.model import Append, Pruning, Tombstone

BATCH_EVENTS = 512
"""One commit prunes at most this many events: some 10 ms of the writer's time."""
_PAGE_EVENTS = 256

assert BATCH_EVENTS <= PRUNE_EVENTS_MAX


class Place(Protocol):
    """Where an event is. A `StoredEvent` is one."""

    @property
    def position(self) -> int: ...  # noqa: D102
    @property
    def stream(self) -> str: ...  # noqa: D102
    @property
    def seq(self) -> int: ...  # noqa: D102


async def prune(
    log: StoreLog, places: Sequence[Place], policy: dict[str, object], ambient: Ambient, principal: str
) -> int:
    """Prune these events, at most `BATCH_EVENTS`; returns how many. `policy`: why, as the receipt states it.

    What was pruned meanwhile is left out, and so is the newest event of a stream.

    Raises:
        EventStoreError: as `Log.append`; a whole log stays.
    """
    if not places:
        return 0
    async with log.pruning:
        await log.index_to(max(place.position for place in places))
        links = await log.links([(place.stream, place.seq) for place in places])
        stones = [
            Tombstone(place.position, place.stream, place.seq, chain)
            for place, chain in zip(places, links, strict=True)
            if chain is not None and place.seq < log.head(place.stream).seq
        ]
        if not stones:
            return 0
        stones.sort(key=lambda stone: stone.position)
        now_ms = ambient.now_ms()
        pruning = Pruning(
            positions=tuple(stone.position for stone in stones), firsts=await _firsts(log, stones)
        )
        event = receipt(stones, policy, now_ms)
        await log.append(Append(ts_ms=now_ms, events=(event,), principal=principal, prune=pruning))
    return len(stones)


async def _firsts(log: StoreLog, stones: Sequence[Tombstone]) -> dict[str, int]:
    """The streams whose oldest event is pruned, each with the seq that is then the oldest."""
    gone: dict[str, set[int]] = {}
    for stone in stones:
        gone.setdefault(stone.stream, set()).add(stone.seq)
    found: dict[str, int] = {}
    for stream, seqs in gone.items():
        first = log.head(stream).first
        if first not in seqs:
            continue
        after = first - 1
        while stream not in found:
            while after + 1 in seqs:
                after += 1
            page = await log.read(stream, after, events_max=_PAGE_EVENTS)
            kept = next((event.seq for event in page if event.seq not in seqs), None)
            if kept is not None:
                found[stream] = kept
            after = page[-1].seq
    return found
