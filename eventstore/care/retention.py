"""Retention: old events leave the log by themselves, in small steps, while it is in use.

Two kinds of events may go. Of streams that no entity folds, everything but the newest event. Of all others,
events of prunable types that a later one supersedes (as `huahuo.eventstore.care.compaction`), so no state is
lost. Rules say of which streams, and after how long or beyond how many bytes.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.care.pruning import BATCH_EVENTS, prune
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.model import LOG_STREAM, StoredEvent

EVENT_BYTES = 128
"""What an event takes besides its body: its place, its link and its names, by estimate."""
STEP_EVENTS = BATCH_EVENTS
STEP_BYTES = 1 << 20
SERIES_MAX = 100_000
"""Series whose last old event is remembered, some 300 B each. Of more, that event stays for `compact`."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
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


def _old(event: StoredEvent) -> _Old:
    return _Old(event.position, event.stream, event.seq, size_of(event))


def size_of(event: StoredEvent) -> int:
    """What an event takes of the disk, by estimate."""
    return len(event.body) + EVENT_BYTES


class _ByAge:
    """What one rule removes for its age: each old event when a later old one of its series comes."""

    def __init__(self, rule: Rule, older_than_ms: int, facts: Facts) -> None:
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
        self._last[name] = _old(event)
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

    def count(self, event: StoredEvent, rule: Rule | None) -> None:
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
            chosen.append(_old(event))
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
        self, log: StoreLog, rules: Sequence[Rule], facts: Facts, ambient: Ambient, principal: str
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

    def _find_rule(self, stream: str) -> Rule | None:
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

    async def _prune(self, chosen: Sequence[_Old], rule: Rule) -> None:
        self.pruned += await prune(self._log, chosen, rule.described(), self._ambient, self._principal)
        if self._by_size is not None:
            self._by_size.forget(chosen)
