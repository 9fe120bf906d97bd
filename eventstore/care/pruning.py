"""Pruning events: they become tombstones, and a receipt in the same commit vouches for them.

Compaction prunes superseded events of the chosen types at once: those which enough later events of the
same stream, type and entity follow. Then a fold that keeps only the last one gives the same state. The
newest event of a stream always stays.

Retention prunes by itself, in small steps, while the log is in use. Two kinds of events may go. Of streams
that no entity folds, everything but the newest event. Of all others, events of prunable types that a later
one supersedes, so no state is lost. Rules say of which streams, and after how long or beyond how many
bytes.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import batched
from typing import Protocol

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.reader import AUDIT_STREAM, receipt
from huahuo.eventstore.errors import Conflict
from huahuo.eventstore.limits import PRUNE_EVENTS_MAX
from huahuo.eventstore.model import LOG_STREAM, Append, Page, Pruning, StoredEvent, Tombstone

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


_PAGE_EVENTS = 1000
_ENDED_A_COMMIT = 256


def _one_series(_event: StoredEvent) -> str:
    return ""


class CompactionPolicy(msgspec.Struct, frozen=True, kw_only=True):
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

    def __init__(self, policy: CompactionPolicy) -> None:
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


async def compact(log: StoreLog, policy: CompactionPolicy, ambient: Ambient, principal: str) -> int:
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
            pruned += await _prune_superseded(log, batch[:BATCH_EVENTS], policy, ambient, principal)
            del batch[:BATCH_EVENTS]
    if batch:
        pruned += await _prune_superseded(log, batch, policy, ambient, principal)
    for some in batched(sorted(ended), _ENDED_A_COMMIT):
        await log.append(Append(ts_ms=ambient.now_ms(), ended=some, principal=principal))
    return pruned


async def _prune_superseded(
    log: StoreLog, events: list[StoredEvent], policy: CompactionPolicy, ambient: Ambient, principal: str
) -> int:
    return await prune(log, events, policy.described(), ambient, principal)


EVENT_BYTES = 128
"""What an event takes besides its body: its place, its link and its names, by estimate."""
STEP_EVENTS = BATCH_EVENTS
STEP_BYTES = 1 << 20
SERIES_MAX = 100_000
"""Series whose last old event is remembered, some 300 B each. Of more, that event stays for `compact`."""


class RetentionRule(msgspec.Struct, frozen=True, kw_only=True):
    """What may go of the streams that `streams` matches, a name or a pattern such as `group/*`."""

    streams: str
    older_than_ms: int | None = None
    bytes_max: int | None = None
    """Of one stream. Only of streams that no entity folds."""

    def described(self) -> dict[str, object]:
        """The rule as a receipt states it."""
        return {"retention": self.streams, "older_than_ms": self.older_than_ms, "bytes_max": self.bytes_max}


class Facts(msgspec.Struct, frozen=True):
    """What may go. `is_free`: no entity folds this stream. `prunable` and `series`: see `Past`."""

    is_free: Callable[[str], bool]
    prunable: frozenset[str]
    series: Callable[[StoredEvent], str]

    def frees(self, event: StoredEvent) -> bool:
        """Whether no entity needs this event. What an entity wrote on its own stream, it may fold again.

        The application that is served may lack that entity, because it is an older one or another.
        """
        return event.entity != event.stream and self.is_free(event.stream)


class _Old(msgspec.Struct, frozen=True, gc=False):
    """An event without its body."""

    position: int
    stream: str
    seq: int
    size: int


def _old_of(event: StoredEvent) -> _Old:
    return _Old(event.position, event.stream, event.seq, size_of(event))


def size_of(event: StoredEvent) -> int:
    """What an event takes of the disk, by estimate."""
    return len(event.body) + EVENT_BYTES


class _ByAge:
    """What one rule removes for its age: each old event when a later old one of its series comes."""

    def __init__(self, rule: RetentionRule, older_than_ms: int, facts: Facts) -> None:
        self.rule = rule
        self.older_than_ms = older_than_ms
        self.cursor = 0
        """The position up to which all events were offered."""
        self._facts = facts
        self._last: OrderedDict[tuple[str, ...], _Old] = OrderedDict()

    def offer(self, event: StoredEvent) -> _Old | None:
        """Note an old event. Returns the one that may now be pruned, if any."""
        name = self._series_of(event)
        if name is None:
            return None
        before = self._last.pop(name, None)
        self._last[name] = _old_of(event)
        if len(self._last) > SERIES_MAX:
            self._last.popitem(last=False)
        return before if before is not None and before.position < event.position else None

    def _series_of(self, event: StoredEvent) -> tuple[str, ...] | None:
        if self._facts.frees(event):
            return (event.stream,)
        if event.type not in self._facts.prunable:
            return None
        return (event.stream, event.type, event.entity, self._facts.series(event))


class _BySize:
    """How many bytes the streams with a bound have, and which have too many."""

    def __init__(self, facts: Facts) -> None:
        self.cursor = 0
        self.over: dict[str, int] = {}
        """Streams that are too large, each with its bound."""
        self.passed: dict[str, int] = {}
        """Of streams that begin with many events which no rule frees: the last of those that were seen."""
        self._facts = facts
        self._sizes: dict[str, int] = {}

    def count(self, event: StoredEvent, rule: RetentionRule | None) -> None:
        """Count the next event of the log."""
        self.cursor = event.position
        if rule is None or rule.bytes_max is None or not self._facts.frees(event):
            return
        size = self._sizes[event.stream] = self._sizes.get(event.stream, 0) + size_of(event)
        if size > rule.bytes_max:
            self.over[event.stream] = rule.bytes_max

    def choose(self, stream: str, oldest: Sequence[StoredEvent]) -> list[_Old]:
        """Those of the oldest events that make the stream fit when they go."""
        excess, chosen = self._sizes[stream] - self.over[stream], list[_Old]()
        for event in oldest:
            if excess <= 0:
                break
            if not self._facts.frees(event):
                continue
            excess -= size_of(event)
            chosen.append(_old_of(event))
        return chosen

    def forget(self, gone: Sequence[_Old]) -> None:
        """These events were pruned."""
        for old in gone:
            if old.stream in self._sizes and old.position <= self.cursor:
                self._sizes[old.stream] -= old.size
                if self._sizes[old.stream] <= self.over.get(old.stream, 0):
                    del self.over[old.stream]


class Retention:
    """Applies rules to one log. The first rule that matches a stream is its only one.

    What it remembers is made anew by a start, from the log, in the same small steps.
    """

    def __init__(
        self, log: StoreLog, rules: Sequence[RetentionRule], facts: Facts, ambient: Ambient, principal: str
    ) -> None:
        self.pruned = 0
        """Events since the start."""
        self._log = log
        self._facts = facts
        self._rules = tuple(rules)
        self._ambient = ambient
        self._principal = principal
        self._rule_of = lru_cache(maxsize=4096)(self._find_rule)
        self._by_age = [
            _ByAge(rule, rule.older_than_ms, facts) for rule in rules if rule.older_than_ms is not None
        ]
        self._by_size = _BySize(facts) if any(rule.bytes_max is not None for rule in rules) else None

    def begin_anew(self) -> None:
        """Forget what was counted: others have pruned events."""
        for one in self._by_age:
            one.cursor = 0
        if self._by_size is not None:
            self._by_size = _BySize(self._facts)

    async def step(self) -> bool:
        """Do one small piece of work. Returns whether there may be more now.

        Raises:
            EventStoreError: as `Log.read` and `Log.append`. The next call goes on.
        """
        return await self._count() or await self._free() or await self._age()

    def _find_rule(self, stream: str) -> RetentionRule | None:
        return next((rule for rule in self._rules if fnmatchcase(stream, rule.streams)), None)

    async def _count(self) -> bool:
        """Count the bytes of the next events."""
        sizes = self._by_size
        if sizes is None or sizes.cursor >= self._log.position:
            return False
        upto = self._log.position
        page = await self._page(sizes.cursor)
        for event in page:
            sizes.count(event, self._rule_of(event.stream))
        return sizes.cursor < upto  # what comes meanwhile is for the next call, or there would be no end

    async def _free(self) -> bool:
        """Prune the oldest events of one stream that is too large."""
        sizes = self._by_size
        if sizes is None or not sizes.over:
            return False
        stream = next(iter(sizes.over))
        rule, head = self._rule_of(stream), self._log.head(stream)
        assert rule is not None, "it was counted because of one"
        after = max(head.first - 1, sizes.passed.get(stream, 0))
        page = await self._log.read(stream, after, events_max=BATCH_EVENTS, bytes_max=STEP_BYTES)
        older = [event for event in page if event.seq < head.seq]
        chosen = sizes.choose(stream, older)
        if chosen:
            await self._prune(chosen, rule)
        elif older:
            sizes.passed[stream] = older[-1].seq
        else:
            sizes.over.pop(stream, None)
        return True

    async def _age(self) -> bool:
        """Prune what is too old among the next events."""
        for one in self._by_age:
            before_ms = self._ambient.now_ms() - one.older_than_ms
            upto, seen, gone = self._log.position, 0, list[_Old]()
            for event in await self._page(one.cursor):
                if self._rule_of(event.stream) is one.rule:
                    if event.ts_ms >= before_ms:
                        break
                    if (superseded := one.offer(event)) is not None:
                        gone.append(superseded)
                seen = event.position
            await self._prune(gone, one.rule)
            one.cursor = max(one.cursor, seen)
            if gone or 0 < seen < upto:
                return True
        return False

    async def _page(self, after: int) -> list[StoredEvent]:
        if after >= self._log.position:
            return []
        return await self._log.read(LOG_STREAM, after, events_max=STEP_EVENTS, bytes_max=STEP_BYTES)

    async def _prune(self, chosen: Sequence[_Old], rule: RetentionRule) -> None:
        self.pruned += await prune(self._log, chosen, rule.described(), self._ambient, self._principal)
        if self._by_size is not None:
            self._by_size.forget(chosen)
