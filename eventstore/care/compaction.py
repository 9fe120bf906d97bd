"""Compaction: superseded events of the chosen types are pruned; their tombstones and a receipt stay.

`huahuo.eventstore.care.retention` does the same by itself, little by little, in a running service.

An event may be pruned if enough later events of the same stream, type and entity follow it. Then a fold
that keeps only the last one gives the same state. The newest event of a stream always stays.
"""

from collections import deque
from collections.abc import Callable
from itertools import batched

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.care.pruning import BATCH_EVENTS, prune
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.model import LOG_STREAM, Append, StoredEvent

_PAGE_EVENTS = 1000
_ENDED_A_COMMIT = 256


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

    Each batch is one commit, so a stop in the middle leaves a whole log.

    Raises:
        EventStoreError: as `Log.read` and `Log.append`.
    """
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
            pruned += await _prune(log, batch[:BATCH_EVENTS], policy, ambient, principal)
            del batch[:BATCH_EVENTS]
    if batch:
        pruned += await _prune(log, batch, policy, ambient, principal)
    for some in batched(sorted(ended), _ENDED_A_COMMIT):
        await log.append(Append(ts_ms=ambient.now_ms(), ended=some, principal=principal))
    return pruned


async def _prune(
    log: StoreLog, events: list[StoredEvent], policy: Policy, ambient: Ambient, principal: str
) -> int:
    return await prune(log, events, policy.described(), ambient, principal)
