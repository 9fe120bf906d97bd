"""The rows of a projection, made anew from the log.

A table that follows from states (`@order.rows`) is made by today's code from all events of its entities. Rows
that decisions gave themselves are replayed as `projection/<table>` records them: a decision depends on its
command and its user, which the log does not hold.

Decisions go on meanwhile, here and on other nodes: each append expects the heads of what it was made from,
and that no other rebuild of the table has begun.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

import structlog
from msgspec.structs import replace

from huahuo.actors.domain import derived, row_versions
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.fold import EntityFold
from huahuo.actors.domain.row_facts import BUILT_IN, KIND, ROWS_CHANGED, STREAMS, TABLE_PREFIX, rows_in
from huahuo.actors.domain.row_versions import code_of
from huahuo.actors.followers.record import Tables
from huahuo.eventstore.errors import Conflict, EventStoreError
from huahuo.eventstore.model import Append, RowDrop, RowPut
from huahuo.eventstore.port import Log
from huahuo.replay.history.keyframes import load

_log = structlog.get_logger(__name__)

_MARKS: Final = "rebuilding"
_ROWS_AN_APPEND: Final = 5_000
_BYTES_AN_APPEND: Final = 8 << 20
_PAGE_EVENTS: Final = 512
_NO_HEADS: Final[Mapping[str, int]] = MappingProxyType({})
_PAGE_ROWS: Final = 1_000

type Told = Callable[[int, int], None]


def _nobody(_done: int, _whole: int) -> None:
    pass


def recorded(log: Tables) -> list[str]:
    """The names of all projections that ever had a row which a decision gave."""
    names = (stream.removeprefix(STREAMS) for stream in log.streams(STREAMS))
    return sorted(name for name in names if not name.startswith(BUILT_IN))


def tables(log: Tables, catalog: Catalog) -> list[str]:
    """The names of all projections: those of the log, and those that states are the source of."""
    return sorted({*recorded(log), *catalog.derived})


class Superseded(EventStoreError):  # noqa: N818  the condition is the name
    """Another rebuild of the table has begun since, and makes all of it."""


async def rebuild(
    log: Log, table: str, catalog: Catalog, *, now_ms: int, told: Told = _nobody, by: str = "service"
) -> int:
    """Make the rows of a table anew, and return how many rows, or changes of rows, it was made from.

    `told` hears how many streams or events are done, and of how many. After a crash in between, `finish` does
    it again.

    Raises:
        Superseded: see that class.
    """
    run = _Run(log, table, catalog, now_ms, by)
    await run.begin()
    await (run.derive(told) if table in catalog.derived else run.replay(told))
    return run.count


async def finish(log: Log, catalog: Catalog, *, now_ms: int) -> None:
    """Make anew what a `rebuild` did not come to the end of, and what decisions left rows out of."""
    begun = [key.decode() for key, _ in await log.rows(KIND, _MARKS, after=b"", limit=_PAGE_ROWS)]
    behind = [table for table in catalog.derived if await row_versions.is_behind(log, table)]
    for table in sorted({*begun, *behind}):
        if table in catalog.derived and not await row_versions.is_final(log, catalog, table):
            continue
        _log.warning("projection_rebuilt_again", projection=table)
        with suppress(Superseded):  # by another node
            await rebuild(log, table, catalog, now_ms=now_ms)


async def finalize(log: Log, catalog: Catalog, *, now_ms: int, by: str) -> None:
    """From now on the code of this process makes the tables. Those that other code made are made anew."""
    for table in await outdated(log, catalog):
        await rebuild(log, table, catalog, now_ms=now_ms, by=by)


async def remembered(log: Tables) -> list[str]:
    """The names of all tables that states were ever the source of, in this application or another."""
    keys: list[bytes] = []
    while rows := await log.rows(KIND, derived.PARTS, after=keys[-1] if keys else b"", limit=_PAGE_ROWS):
        keys += [key for key, _ in rows]
    return sorted({derived.table_in(key).removeprefix(TABLE_PREFIX) for key in keys})


async def outdated(log: Tables, catalog: Catalog) -> list[str]:
    """The derived tables that other code than today's has made, or none at all, or that lack rows."""
    found = []
    for table, entities in sorted(catalog.derived.items()):
        code = await row_versions.code_in(log, table)
        if code is None and not any(log.streams(f"{entity.kind}/") for entity in entities):
            continue
        if code != code_of(catalog, table) or await row_versions.is_behind(log, table):
            found.append(table)
    return found


async def notice_new(log: Log, catalog: Catalog, *, now_ms: int, shared: bool) -> None:
    """Note by which code new tables are made from now on, and warn of those that other code made."""
    behind = await outdated(log, catalog)
    for table in behind:
        what = (
            "huahuo cluster finalize, once all nodes are updated"
            if shared
            else f"huahuo projections rebuild {table}"
        )
        _log.warning("projection_of_other_code", projection=table, what_to_do=what)
    for table in catalog.derived:
        if table not in behind and await row_versions.code_in(log, table) is None:
            await log.append(row_versions.beginning(catalog, table, 0, now_ms, "service"))


class _Run:
    """One rebuild: gathers rows, and the heads that they follow from, into appends of a bounded size."""

    def __init__(self, log: Log, table: str, catalog: Catalog, now_ms: int, by: str) -> None:
        self._log = log
        self._table = table
        self._catalog = catalog
        self._now_ms = now_ms
        self._by = by
        self._mine = {row_versions.stream_of(table): 0}
        self._mark = RowDrop(KIND, _MARKS, table.encode())
        self.count = 0

    async def begin(self) -> None:
        """From now on the table is that of this run: all that was computed before is refused."""
        stream = row_versions.stream_of(self._table)
        while True:
            seq = self._log.head(stream).seq
            append = row_versions.beginning(self._catalog, self._table, seq, self._now_ms, self._by)
            mark = RowPut(KIND, _MARKS, self._table.encode(), b"")
            try:
                await self._log.append(replace(append, rows=(*append.rows, mark)))
            except Conflict:
                continue  # another run has begun
            self._mine = {stream: seq + 1}
            return

    async def derive(self, told: Told) -> None:
        """Nothing in all parts, then the rows of each entity's state."""
        log, name = self._log, TABLE_PREFIX + self._table
        entities = self._catalog.derived[self._table]
        async for part in _parts(log, self._table):
            drop = RowDrop(KIND, derived.PARTS, derived.part_key(name, part))
            await self._append([RowDrop(name, part), drop])
        whole = [(entity, stream) for entity in entities for stream in log.streams(f"{entity.kind}/")]
        some: list[tuple[Entity[Any], str]] = []
        rows: list[RowPut | RowDrop] = []
        heads: dict[str, int] = {}
        for done, (entity, stream) in enumerate(whole, 1):
            heads[stream], made = await self._rows_of(entity, stream)
            some.append((entity, stream))
            rows += made
            if done == len(whole) or _is_full(rows) or len(some) >= _PAGE_ROWS:
                await self._put(some, rows, heads)
                some, rows, heads = [], [], {}
            told(done, len(whole))
        await self._append([self._mark])

    async def _put(
        self,
        some: Sequence[tuple[Entity[Any], str]],
        rows: Sequence[RowPut | RowDrop],
        heads: Mapping[str, int],
    ) -> None:
        """Write the rows of some entities; those of one that has changed meanwhile are made again."""
        try:
            await self._append(rows, heads)
        except Conflict:
            for entity, stream in some:
                seq, made = await self._rows_of(entity, stream)
                await self._put([(entity, stream)], made, {stream: seq})

    async def _rows_of(self, entity: Entity[Any], stream: str) -> tuple[int, Sequence[RowPut | RowDrop]]:
        loaded = await load(self._log, stream, EntityFold(entity), frames_from=_PAGE_EVENTS)
        held, but = loaded.state, entity.tables.keys() - {self._table}
        made = derived.rows_of(entity, held.state, held.key, but) if held.exists else {}
        return loaded.seq, derived.with_parts(made.values())

    async def replay(self, told: Told) -> None:
        """Each recorded change in its order; before the first of a part, nothing is in it."""
        log, table, stream = self._log, self._table, STREAMS + self._table
        seq, parts = 0, set[str]()
        while True:
            page = await log.read(stream, seq, events_max=_PAGE_EVENTS)
            changes = [
                row for event in page if event.type == ROWS_CHANGED for row in rows_in(table, event.body)
            ]
            new = {row.part for row in changes} - parts
            rows = [*(RowDrop(TABLE_PREFIX + table, part) for part in sorted(new)), *changes]
            end = page[-1].seq if page else seq
            is_last = end >= log.head(stream).seq
            try:
                await self._append([*rows, self._mark] if is_last else rows, {stream: end} if is_last else {})
            except Conflict:
                continue  # a decision gave more rows meanwhile
            seq, parts = end, parts | new
            told(seq, log.head(stream).seq)
            if is_last:
                return

    async def _append(self, rows: Sequence[RowPut | RowDrop], heads: Mapping[str, int] = _NO_HEADS) -> None:
        """Raises Superseded, Conflict."""
        append = Append(ts_ms=self._now_ms, rows=tuple(rows), expected={**self._mine, **heads})
        try:
            await self._log.append(append)
        except Conflict as conflict:
            if conflict.stream in self._mine:
                raise Superseded(f"another rebuild of {self._table} has begun, and goes on") from None
            raise
        self.count += sum(row.table != KIND and row.key is not None for row in rows)


def _is_full(rows: Sequence[RowPut | RowDrop]) -> bool:
    size = sum(len(row.value) for row in rows if isinstance(row, RowPut))
    return len(rows) >= _ROWS_AN_APPEND or size >= _BYTES_AN_APPEND


async def _parts(log: Log, table: str) -> AsyncIterator[str]:
    after = b""
    while rows := await log.rows(KIND, derived.PARTS, after=after, limit=_PAGE_ROWS):
        for part in derived.parts_in(table, [key for key, _ in rows]):
            yield part
        after = rows[-1][0]
