"""The rows of a projection, made anew from the log.

A table that follows from states (`@order.rows`) is made by today's code from all events of its entities. Rows
that decisions gave themselves are replayed as `projection/<table>` records them: a decision depends on its
command and its user, which the log does not hold.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

import structlog

from huahuo.actors.domain import derived
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.fold import EntityFold
from huahuo.actors.domain.row_facts import KIND, ROWS_CHANGED, STREAMS, TABLE_PREFIX, rows_in
from huahuo.actors.followers.record import Tables
from huahuo.eventstore.model import Append, RowDrop, RowPut
from huahuo.eventstore.port import Log
from huahuo.replay.history.keyframes import load

_log = structlog.get_logger(__name__)

_MARKS: Final = "rebuilding"
_CODE: Final = "code"
_ROWS_AN_APPEND: Final = 5_000
_BYTES_AN_APPEND: Final = 8 << 20
_PAGE_EVENTS: Final = 512
_PAGE_ROWS: Final = 1_000

type Told = Callable[[int, int], None]


def _nobody(_done: int, _whole: int) -> None:
    pass


def recorded(log: Tables) -> list[str]:
    """The names of all projections that ever had a row which a decision gave."""
    return sorted(stream.removeprefix(STREAMS) for stream in log.streams(STREAMS))


def tables(log: Tables, catalog: Catalog) -> list[str]:
    """The names of all projections: those of the log, and those that states are the source of."""
    return sorted({*recorded(log), *catalog.derived})


async def rebuild(log: Log, table: str, catalog: Catalog, *, now_ms: int, told: Told = _nobody) -> int:
    """Make the rows of a table anew, and return how many rows, or changes of rows, it was made from.

    Nothing may write it meanwhile. `told` hears how many streams or events are done, and of how many. After a
    crash in between, `finish` does it again.
    """
    mark = table.encode()
    code = code_of(catalog, table) if table in catalog.derived else None
    await log.append(Append(ts_ms=now_ms, rows=(RowPut(KIND, _MARKS, mark, b""),)))
    writer = _Writer(log, now_ms)
    source = _derived if table in catalog.derived else _replayed
    async for rows in source(log, table, catalog, told):
        await writer.add(rows)
    last: list[RowPut | RowDrop] = [RowDrop(KIND, _MARKS, mark)]
    if code is not None:
        last.append(RowPut(KIND, _CODE, mark, code))
    await writer.end(last)
    return writer.count


async def finish(log: Log, catalog: Catalog, *, now_ms: int) -> None:
    """Make anew what a `rebuild` did not come to the end of."""
    for key, _ in await log.rows(KIND, _MARKS, after=b"", limit=_PAGE_ROWS):
        _log.warning("projection_rebuilt_again", projection=key.decode())
        await rebuild(log, key.decode(), catalog, now_ms=now_ms)


async def remembered(log: Tables) -> list[str]:
    """The names of all tables that states were ever the source of, in this application or another."""
    keys: list[bytes] = []
    while rows := await log.rows(KIND, derived.PARTS, after=keys[-1] if keys else b"", limit=_PAGE_ROWS):
        keys += [key for key, _ in rows]
    return sorted({derived.table_in(key).removeprefix(TABLE_PREFIX) for key in keys})


async def outdated(log: Tables, catalog: Catalog) -> list[str]:
    """The derived tables that other code than today's has made, or none at all."""
    found = []
    for table, entities in sorted(catalog.derived.items()):
        code = await log.row(KIND, _CODE, table.encode())
        if code is None and not any(log.streams(f"{entity.kind}/") for entity in entities):
            continue
        if code != code_of(catalog, table):
            found.append(table)
    return found


async def notice_new(log: Log, catalog: Catalog, *, now_ms: int) -> None:
    """Note by which code new tables are made from now on, and warn of those that other code made."""
    behind = await outdated(log, catalog)
    for table in behind:
        _log.warning(
            "projection_of_other_code", projection=table, what_to_do=f"huahuo projections rebuild {table}"
        )
    new = [RowPut(KIND, _CODE, name.encode(), code_of(catalog, name)) for name in catalog.derived]
    if rows := tuple(row for row in new if row.key.decode() not in behind):
        await log.append(Append(ts_ms=now_ms, rows=rows))


def code_of(catalog: Catalog, table: str) -> bytes:
    """What changes with the code that makes a derived table. It is looked at once, before the code runs."""
    if table not in catalog.table_codes:
        prints = [(one, EntityFold(one).fingerprint) for one in catalog.derived[table]]
        catalog.table_codes[table] = derived.code_of(table, prints)
    return catalog.table_codes[table]


class _Writer:
    """Gathers rows into appends of a bounded size."""

    def __init__(self, log: Log, now_ms: int) -> None:
        self._log = log
        self._now_ms = now_ms
        self._rows: list[RowPut | RowDrop] = []
        self._bytes = 0
        self.count = 0

    async def add(self, rows: Iterable[RowPut | RowDrop]) -> None:
        for row in rows:
            self._rows.append(row)
            self._bytes += len(row.value) if isinstance(row, RowPut) else 0
            self.count += row.table != KIND and row.key is not None
        if len(self._rows) >= _ROWS_AN_APPEND or self._bytes >= _BYTES_AN_APPEND:
            await self.end([])

    async def end(self, rows: Iterable[RowPut | RowDrop]) -> None:
        await self._log.append(Append(ts_ms=self._now_ms, rows=(*self._rows, *rows)))
        self._rows.clear()
        self._bytes = 0


async def _derived(
    log: Log, table: str, catalog: Catalog, told: Told
) -> AsyncIterator[list[RowPut | RowDrop]]:
    """Nothing in all parts, then the rows of each entity's state."""
    name = TABLE_PREFIX + table
    for part in [part async for part in _parts(log, table)]:
        yield [RowDrop(name, part), RowDrop(KIND, derived.PARTS, derived.part_key(name, part))]
    whole = [
        (entity, stream) for entity in catalog.derived[table] for stream in log.streams(f"{entity.kind}/")
    ]
    folds = {entity.kind: EntityFold(entity) for entity in catalog.derived[table]}
    for done, (entity, stream) in enumerate(whole):
        held = (await load(log, stream, folds[entity.kind], frames_from=_PAGE_EVENTS)).state
        if held.exists:
            made = derived.rows_of(entity, held.state, held.key)
            yield [*derived.with_parts([put for place, put in made.items() if place[0] == name])]
        told(done + 1, len(whole))


async def _parts(log: Log, table: str) -> AsyncIterator[str]:
    after = b""
    while rows := await log.rows(KIND, derived.PARTS, after=after, limit=_PAGE_ROWS):
        for part in derived.parts_in(table, [key for key, _ in rows]):
            yield part
        after = rows[-1][0]


async def _replayed(
    log: Log, table: str, _catalog: Catalog, told: Told
) -> AsyncIterator[list[RowPut | RowDrop]]:
    """Each recorded change in its order; before the first of a part, nothing is in it."""
    stream, parts = STREAMS + table, set[str]()
    head, seq = log.head(stream).seq, 0
    while seq < head:
        page = await log.read(stream, seq, events_max=_PAGE_EVENTS)
        for event in page:
            if event.type != ROWS_CHANGED:
                continue
            rows: list[RowPut | RowDrop] = []
            for row in rows_in(table, event.body):
                if row.part not in parts:
                    parts.add(row.part)
                    rows.append(RowDrop(TABLE_PREFIX + table, row.part))
                rows.append(row)
            yield rows
        seq = page[-1].seq if page else head
        told(seq, head)
