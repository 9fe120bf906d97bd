"""Pruning events: they become tombstones, and a receipt in the same commit vouches for them."""

from collections.abc import Sequence
from typing import Protocol

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.receipts import AUDIT_STREAM, receipt
from huahuo.eventstore.errors import Conflict
from huahuo.eventstore.limits import PRUNE_EVENTS_MAX
from huahuo.eventstore.model import Append, Page, Pruning, Tombstone

BATCH_EVENTS = 256
"""One commit prunes at most this many events: some 5 ms of the writer's time."""
_ONE_EVENT_BYTES = 1
_TRIES = 8

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
        for left in reversed(range(_TRIES)):
            try:
                return await _prune(log, places, policy, ambient, principal)
            except Conflict:  # perhaps another node pruned them
                if not left:
                    raise
    raise AssertionError("a try returns or raises")


async def _prune(
    log: StoreLog, places: Sequence[Place], policy: dict[str, object], ambient: Ambient, principal: str
) -> int:
    """Raises Conflict: a receipt came between the look at the events and the commit."""
    receipts = log.head(AUDIT_STREAM).seq
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
    pruning = Pruning(positions=tuple(stone.position for stone in stones), firsts=await _firsts(log, stones))
    await log.append(
        Append(
            ts_ms=now_ms,
            events=(receipt(stones, policy, now_ms),),
            expected={AUDIT_STREAM: receipts},
            principal=principal,
            prune=pruning,
        )
    )
    return len(stones)


async def _firsts(log: StoreLog, stones: Sequence[Tombstone]) -> dict[str, int]:
    """The streams whose oldest event is pruned, each with the seq that is then the oldest."""
    gone: dict[str, set[int]] = {}
    for stone in stones:
        gone.setdefault(stone.stream, set()).add(stone.seq)
    found: dict[str, int] = {}
    # The seq before the first one that may be kept, of streams that lose their first.
    ends = {stream: first - 1 for stream, seqs in gone.items() if (first := log.head(stream).first) in seqs}
    while ends:
        ends = {stream: _skip(end, gone[stream]) for stream, end in ends.items()}
        pages = [Page(stream, end, 1, _ONE_EVENT_BYTES) for stream, end in ends.items()]
        for stream, page in zip(tuple(ends), await log.read_pages(pages), strict=True):
            ends[stream] = seq = page[0].seq
            if seq not in gone[stream]:
                found[stream] = seq
                del ends[stream]
    return found


def _skip(end: int, gone: set[int]) -> int:
    """The last of the seqs that follow `end` without a gap and are gone."""
    while end + 1 in gone:
        end += 1
    return end
