"""The walk over a log that asks every rule, a page at a time."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from huahuo.actors.plugins.plugin import Plugin
from huahuo.eventstore.core.chain import merged
from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.model import LOG_STREAM, StoredEvent, Tombstone
from huahuo.eventstore.verdict import Ends, Rule, Verdict
from huahuo.invariants.log_rules import AcksWithinStreams, ChainHolds, NumbersFollow
from huahuo.invariants.work_rules import EffectsEndOnce, TimersFireOnce

_PAGE: Final = 2_000
_PAGE_BYTES: Final = 4 << 20


def rules(plugins: Iterable[Plugin] = ()) -> list[Rule]:
    """All rules that a log alone can show: ours, and those of plug-ins."""
    ours: list[Rule] = [
        NumbersFollow(),
        ChainHolds(),
        AcksWithinStreams(),
        EffectsEndOnce(),
        TimersFireOnce(),
    ]
    return [*ours, *(rule for plugin in plugins for rule in plugin.rules())]


async def check(log: LogReader, asked: Sequence[Rule]) -> list[Verdict]:
    """The verdicts of these rules over a whole log. Raises as `LogReader.read`."""
    acks, heads = await log.acks(), {name: log.head(name).seq for name in log.streams("")}
    async for one in _whole(log, log.position):
        for rule in asked:
            rule.see(one)
    ends = Ends(heads, acks)
    return [rule.verdict(ends) for rule in asked]


async def _whole(log: LogReader, upto: int) -> AsyncIterator[StoredEvent | Tombstone]:
    """Events and tombstones up to this position, in their order."""
    at = 0
    while at < upto:
        events = await log.read(LOG_STREAM, at, events_max=_PAGE, bytes_max=_PAGE_BYTES)
        last = min(upto, events[-1].position) if events else upto
        stones: list[Tombstone] = []
        while page := await log.tombstones(stones[-1].position if stones else at, last, _PAGE):
            stones += page
        for one in merged([event for event in events if event.position <= last], stones):
            yield one
        at = last
