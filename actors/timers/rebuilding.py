"""The table of timers, made anew from the events of all `timer/<kind>/<key>` streams."""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from huahuo.actors.timers.pending import PendingTimers
from huahuo.actors.timers.timer import COMMANDS_PART, DUE_PART, STREAMS, TABLE
from huahuo.eventstore.model import Append, RowDrop, RowPut
from huahuo.eventstore.port import Log
from huahuo.replay.history.keyframes import load

_MARK_PART: Final = "rebuilding"
_MARK: Final = b"begun"
_ROWS_AN_APPEND: Final = 5_000


async def was_interrupted(log: Log) -> bool:
    """Whether a `rebuild` did not come to its end, so that the table is not whole."""
    return await log.row(TABLE, _MARK_PART, _MARK) is not None


def _nobody(_done: int, _whole: int) -> None:
    pass


async def rebuild(log: Log, *, now_ms: int, told: Callable[[int, int], None] = _nobody) -> int:
    """Make the table anew, and return how many timers are pending. Nothing may set or fire one meanwhile.

    `told` hears how many streams are done, and of how many. After a crash in between, `was_interrupted` is
    true, and it can be done again.
    """
    first = (RowPut(TABLE, _MARK_PART, _MARK, b""), RowDrop(TABLE, DUE_PART), RowDrop(TABLE, COMMANDS_PART))
    await log.append(Append(ts_ms=now_ms, rows=first))
    count = 0
    rows: list[RowPut | RowDrop] = []
    streams = log.streams(STREAMS)
    for done, stream in enumerate(streams):
        told(done, len(streams))
        loaded = await load(log, stream, PendingTimers())
        for timer in loaded.state.values():
            rows += replace(timer, seq=loaded.seq).puts()
        count += len(loaded.state)
        if len(rows) >= _ROWS_AN_APPEND:
            await log.append(Append(ts_ms=now_ms, rows=tuple(rows)))
            rows.clear()
    await log.append(Append(ts_ms=now_ms, rows=(*rows, RowDrop(TABLE, _MARK_PART, _MARK))))
    return count
