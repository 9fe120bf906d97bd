"""The table of timers, made anew from the events of all `timer/<kind>/<key>` streams."""

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from huahuo.actors.timers.timer import (
    COMMANDS_PART,
    DUE_PART,
    STREAMS,
    TABLE,
    Timer,
    TimerFired,
    TimersCancelled,
    TimerSet,
    decode_event,
)
from huahuo.eventstore.model import Append, RowDrop, RowPut, StoredEvent
from huahuo.eventstore.port import Log

_MARK_PART: Final = "rebuilding"
_MARK: Final = b"begun"
_EVENTS_A_READ: Final = 1_000
_ROWS_AN_APPEND: Final = 5_000


def fold(pending: dict[str, Timer], event: StoredEvent) -> None:
    """Change the pending timers of one entity, by name, as an event of its timers says. Pure."""
    match decode_event(event.body):
        case TimerSet() as begun:
            pending[begun.name] = begun.timer(event.entity, event.seq)
        case TimerFired(name=name, next_ms=next_ms):
            timer = pending.pop(name, None)
            if timer is not None and next_ms:
                pending[name] = replace(timer, due_ms=next_ms)
        case TimersCancelled(names=names):
            for name in names:
                pending.pop(name, None)


async def was_interrupted(log: Log) -> bool:
    """Whether a `rebuild` did not come to its end, so that the table is not whole."""
    return await log.row(TABLE, _MARK_PART, _MARK) is not None


async def rebuild(log: Log, *, now_ms: int) -> int:
    """Make the table anew, and return how many timers are pending. Nothing may set or fire one meanwhile.

    After a crash in between, `was_interrupted` is true, and it can be done again.
    """
    first = (RowPut(TABLE, _MARK_PART, _MARK, b""), RowDrop(TABLE, DUE_PART), RowDrop(TABLE, COMMANDS_PART))
    await log.append(Append(ts_ms=now_ms, rows=first))
    count = 0
    rows: list[RowPut | RowDrop] = []
    for stream in log.streams(STREAMS):
        pending = await _pending(log, stream)
        count += len(pending)
        rows += _rows(stream.removeprefix(STREAMS), pending, log.head(stream).seq)
        if len(rows) >= _ROWS_AN_APPEND:
            await log.append(Append(ts_ms=now_ms, rows=tuple(rows)))
            rows.clear()
    await log.append(Append(ts_ms=now_ms, rows=(*rows, RowDrop(TABLE, _MARK_PART, _MARK))))
    return count


def _rows(entity: str, pending: dict[str, Timer], head: int) -> Iterator[RowPut | RowDrop]:
    yield RowDrop(TABLE, entity)
    for timer in pending.values():
        yield from replace(timer, seq=head).puts()


async def _pending(log: Log, stream: str) -> dict[str, Timer]:
    pending: dict[str, Timer] = {}
    after, head = 0, log.head(stream).seq
    while after < head:
        page = await log.read(stream, after, events_max=_EVENTS_A_READ)
        for event in page:
            fold(pending, event)
        if not page:
            break
        after = page[-1].seq
    return pending
