"""Compaction: superseded events of the chosen types are pruned; their tombstones and a receipt stay.

An event may be pruned if enough later events of the same stream, type and entity follow it. Then a fold
that keeps only the last one gives the same state. The newest event of a stream always stays.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import batched

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.receipts import AUDIT_STREAM, is_receipt, receipt
from huahuo.eventstore.errors import Conflict
from huahuo.eventstore.limits import PRUNE_EVENTS_MAX
from huahuo.eventstore.model import LOG_STREAM, Append, Pruning, StoredEvent, Tombstone

BATCH_EVENTS = 5000
"""One commit prunes at most this many events: a few milliseconds of the writer's time."""
_PAGE_EVENTS = 1000
_ENDED_A_COMMIT = 256

assert BATCH_EVENTS <= PRUNE_EVENTS_MAX


def _one_series(_event: StoredEvent) -> str:
    return ""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What may be pruned: events of `types` older than `before_ms`, except the last `keep` of each series.

    A series is the events of one type about one entity in one stream, and of one name that `series` gives
    them. A stream whose newest event is of one
    of the types `last` gets no more events, so it is marked as ended.
    """

    types: frozenset[str]
    before_ms: int
    keep: int = 1
    last: frozenset[str] = frozenset()
    series: Callable[[StoredEvent], str] = _one_series

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ValueError("at least the last event of a series is kept")

    def described(self) -> dict[str, object]:
        """The policy as the receipt states it."""
        return {"types": sorted(self.types), "before_ms": self.before_ms, "keep": self.keep}


class _Chooser:
    """Chooses the events that a later event of the same series supersedes. Pure."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._kept: dict[tuple[str, str, str, str], deque[StoredEvent]] = {}

    def offer(self, event: StoredEvent) -> StoredEvent | None:
        """Add `event` to its series; returns the event that may now be pruned, if any."""
        policy = self._policy
        if event.type not in policy.types:
            return None
        name = (event.stream, event.type, event.entity, policy.series(event))
        series = self._kept.setdefault(name, deque())
        series.append(msgspec.structs.replace(event, body=b""))
        if len(series) <= policy.keep:
            return None
        oldest = series.popleft()
        return oldest if oldest.ts_ms < policy.before_ms else None


async def compact(log: StoreLog, policy: Policy, ambient: Ambient, principal: str) -> int:
    """Prune what `policy` allows up to the present head; returns how many events were pruned.

    Each batch is one commit, so a stop in the middle leaves a whole log. If another compaction prunes
    meanwhile, this one chooses anew: two receipts for one event would vouch for nothing.

    Raises:
        EventStoreError: as `Log.read` and `Log.append`.
    """
    receipts = _Receipts(log)
    pruned = 0
    while True:
        try:
            return pruned + await _compact_once(log, policy, ambient, principal, receipts)
        except _Overtaken as overtaken:
            pruned += overtaken.pruned


class _Overtaken(Exception):  # noqa: N818  a fact, not a fault
    """Another compaction pruned meanwhile. `pruned`: what this one had pruned before."""

    def __init__(self, pruned: int) -> None:
        super().__init__()
        self.pruned = pruned


class _Receipts:
    """The head of the stream with the receipts, as of the newest receipt that the choice has seen."""

    def __init__(self, log: StoreLog) -> None:
        self._log = log
        self.seq = log.head(AUDIT_STREAM).seq

    async def is_new(self) -> bool:
        """Whether another receipt has been written. From now on, the present head is the one that is seen."""
        seen, self.seq = self.seq, self._log.head(AUDIT_STREAM).seq
        while seen < self.seq:
            page = await self._log.read(AUDIT_STREAM, seen, events_max=_PAGE_EVENTS)
            if any(is_receipt(event) for event in page):
                return True
            seen = page[-1].seq if page else self.seq
        return False


async def _compact_once(
    log: StoreLog, policy: Policy, ambient: Ambient, principal: str, receipts: _Receipts
) -> int:
    chooser, batch, pruned, ended = _Chooser(policy), list[StoredEvent](), 0, set[str]()
    at, upto = 0, log.position
    while at < upto:
        page = await log.read(LOG_STREAM, at, events_max=min(_PAGE_EVENTS, upto - at))
        if not page:
            break
        at = page[-1].position
        for event in page:
            if event.type in policy.last:
                ended.add(event.stream)
            else:
                ended.discard(event.stream)
            if event.position <= upto and (gone := chooser.offer(event)) is not None:
                batch.append(gone)
        while len(batch) >= BATCH_EVENTS:
            chosen = batch[:BATCH_EVENTS]
            if not await _prune(log, chosen, policy, ambient, principal, receipts):
                raise _Overtaken(pruned)
            pruned += len(chosen)
            del batch[:BATCH_EVENTS]
    if batch:
        if not await _prune(log, batch, policy, ambient, principal, receipts):
            raise _Overtaken(pruned)
        pruned += len(batch)
    for some in batched(sorted(ended), _ENDED_A_COMMIT):
        await log.append(Append(ts_ms=ambient.now_ms(), ended=some, principal=principal))
    return pruned


async def _prune(
    log: StoreLog, events: list[StoredEvent], policy: Policy, ambient: Ambient, principal: str,
    receipts: _Receipts,
) -> bool:  # fmt: skip
    """Prune `events`. False: another compaction wrote a receipt since they were chosen."""
    stones = [Tombstone(e.position, e.stream, e.seq, e.chain) for e in events]
    stones.sort(key=lambda stone: stone.position)
    now_ms = ambient.now_ms()
    pruning = Pruning(
        positions=tuple(stone.position for stone in stones),
        firsts=dict([first async for first in _firsts(log, stones)]),
    )
    while True:
        try:
            await log.append(
                Append(
                    ts_ms=now_ms,
                    events=(receipt(stones, policy.described(), now_ms),),
                    expected={AUDIT_STREAM: receipts.seq},
                    principal=principal,
                    prune=pruning,
                )
            )
        except Conflict:
            if await receipts.is_new():
                return False
        else:
            receipts.seq += 1
            return True


async def _firsts(log: StoreLog, stones: list[Tombstone]) -> AsyncIterator[tuple[str, int]]:
    """The streams whose oldest event is pruned, each with the seq that is then the oldest."""
    gone: dict[str, set[int]] = {}
    for stone in stones:
        gone.setdefault(stone.stream, set()).add(stone.seq)
    for stream, seqs in gone.items():
        first = log.head(stream).first
        if first not in seqs:
            continue
        after = first - 1
        while True:
            page = await log.read(stream, after, events_max=_PAGE_EVENTS)
            kept = next((event.seq for event in page if event.seq not in seqs), None)
            if kept is not None:
                yield stream, kept
                break
            after = page[-1].seq
