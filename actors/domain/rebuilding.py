"""The rows of a projection, made anew from the log: what `projection/<table>` records, in its order."""

from collections.abc import Callable
from typing import Final

import structlog

from huahuo.actors.domain.row_facts import KIND, ROWS_CHANGED, STREAMS, TABLE_PREFIX, rows_in
from huahuo.actors.followers.record import Tables
from huahuo.eventstore.model import Append, RowDrop, RowPut
from huahuo.eventstore.port import Log

_log = structlog.get_logger(__name__)

_MARKS: Final = "rebuilding"
_ROWS_AN_APPEND: Final = 5_000
_BYTES_AN_APPEND: Final = 8 << 20
_PAGE_EVENTS: Final = 512
_PAGE_ROWS: Final = 1_000


def _nobody(_done: int, _whole: int) -> None:
    pass


def tables(log: Tables) -> list[str]:
    """The names of all projections that ever had a row."""
    return sorted(stream.removeprefix(STREAMS) for stream in log.streams(STREAMS))


async def rebuild(log: Log, table: str, *, now_ms: int, told: Callable[[int, int], None] = _nobody) -> int:
    """Make the rows of a table anew, and return how many changes of rows were recorded. Nothing may write it.

    `told` hears how many events are done, and of how many. After a crash in between, `finish` does it again.
    """
    mark, stream = table.encode(), STREAMS + table
    await log.append(Append(ts_ms=now_ms, rows=(RowPut(KIND, _MARKS, mark, b""),)))
    head, seq, count, size = log.head(stream).seq, 0, 0, 0
    parts: set[str] = set()
    rows: list[RowPut | RowDrop] = []
    while seq < head:
        page = await log.read(stream, seq, events_max=_PAGE_EVENTS)
        for event in page:
            if event.type != ROWS_CHANGED:
                continue
            for row in rows_in(table, event.body):
                if row.part not in parts:
                    parts.add(row.part)
                    rows.append(RowDrop(TABLE_PREFIX + table, row.part))
                rows.append(row)
                size += len(row.value) if isinstance(row, RowPut) else 0
                count += 1
            if len(rows) >= _ROWS_AN_APPEND or size >= _BYTES_AN_APPEND:
                await log.append(Append(ts_ms=now_ms, rows=tuple(rows)))
                rows.clear()
                size = 0
        seq = page[-1].seq if page else head
        told(seq, head)
    await log.append(Append(ts_ms=now_ms, rows=(*rows, RowDrop(KIND, _MARKS, mark))))
    return count


async def finish(log: Log, *, now_ms: int) -> None:
    """Make anew what a `rebuild` did not come to the end of."""
    for key, _ in await log.rows(KIND, _MARKS, after=b"", limit=_PAGE_ROWS):
        _log.warning("projection_rebuilt_again", projection=key.decode())
        await rebuild(log, key.decode(), now_ms=now_ms)
