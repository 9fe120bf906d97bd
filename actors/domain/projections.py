"""The projections and followers of a service: where each stands, and what administrators may do with them.

The rows of a projection, made anew from the log.

A table that follows from states (`@order.rows`) is made by today's code from all events of its entities.
Rows that decisions gave themselves are replayed as `projection/<table>` records them: a decision depends
on its command and its user, which the log does not hold.

Decisions go on meanwhile, here and on other nodes: each append expects the heads of what it was made from,
and that no other rebuild of the table has begun.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Annotated, Any, Final

import msgspec
import structlog
from msgspec import Meta, Struct
from msgspec.structs import replace

from huahuo.actors.domain import projection_rows
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.fold import EntityFold
from huahuo.actors.domain.projection_rows import (
    BUILT_IN,
    KIND,
    ROWS_CHANGED,
    STREAMS,
    TABLE_PREFIX,
    code_of,
    rows_in,
)
from huahuo.actors.followers import record
from huahuo.actors.followers.follower import Follower, Followers
from huahuo.actors.followers.record import Tables
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply
from huahuo.actors.plugins.plugin import Host, Projection, Standing
from huahuo.actors.timers.timer import TABLE as TIMERS
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


async def rebuild_rows(
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
    behind = [table for table in catalog.derived if await projection_rows.is_behind(log, table)]
    for table in sorted({*begun, *behind}):
        if table in catalog.derived and not await projection_rows.is_final(log, catalog, table):
            continue
        _log.warning("projection_rebuilt_again", projection=table)
        with suppress(Superseded):  # by another node
            await rebuild_rows(log, table, catalog, now_ms=now_ms)


async def finalize(log: Log, catalog: Catalog, *, now_ms: int, by: str) -> None:
    """From now on the code of this process makes the tables. Those that other code made are made anew."""
    for table in await outdated(log, catalog):
        await rebuild_rows(log, table, catalog, now_ms=now_ms, by=by)


async def remembered(log: Tables) -> list[str]:
    """The names of all tables that states were ever the source of, in this application or another."""
    keys: list[bytes] = []
    while rows := await log.rows(
        KIND, projection_rows.PARTS, after=keys[-1] if keys else b"", limit=_PAGE_ROWS
    ):
        keys += [key for key, _ in rows]
    return sorted({projection_rows.table_in(key).removeprefix(TABLE_PREFIX) for key in keys})


async def outdated(log: Tables, catalog: Catalog) -> list[str]:
    """The derived tables that other code than today's has made, or none at all, or that lack rows."""
    found = []
    for table, entities in sorted(catalog.derived.items()):
        code = await projection_rows.code_in(log, table)
        if code is None and not any(log.streams(f"{entity.kind}/") for entity in entities):
            continue
        if code != code_of(catalog, table) or await projection_rows.is_behind(log, table):
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
        if table not in behind and await projection_rows.code_in(log, table) is None:
            await log.append(projection_rows.beginning(catalog, table, 0, now_ms, "service"))


class _Run:
    """One rebuild: gathers rows, and the heads that they follow from, into appends of a bounded size."""

    def __init__(self, log: Log, table: str, catalog: Catalog, now_ms: int, by: str) -> None:
        self._log = log
        self._table = table
        self._catalog = catalog
        self._now_ms = now_ms
        self._by = by
        self._mine = {projection_rows.stream_of(table): 0}
        self._mark = RowDrop(KIND, _MARKS, table.encode())
        self.count = 0

    async def begin(self) -> None:
        """From now on the table is that of this run: all that was computed before is refused."""
        stream = projection_rows.stream_of(self._table)
        while True:
            seq = self._log.head(stream).seq
            append = projection_rows.beginning(self._catalog, self._table, seq, self._now_ms, self._by)
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
            drop = RowDrop(KIND, projection_rows.PARTS, projection_rows.part_key(name, part))
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
        made = projection_rows.rows_of(entity, held.state, held.key, but) if held.exists else {}
        return loaded.seq, projection_rows.with_parts(made.values())

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
    while rows := await log.rows(KIND, projection_rows.PARTS, after=after, limit=_PAGE_ROWS):
        for part in projection_rows.parts_in(table, [key for key, _ in rows]):
            yield part
        after = rows[-1][0]


ROWS: Final = "rows"
FOLLOWER: Final = "follower"
INDEX: Final = "index"
UNKNOWN: Final = "not in the application"
UP_TO_DATE: Final = "up to date"
OTHER_CODE: Final = "made by other code: rebuild it"
NOT_FINAL: Final = "another version writes these rows: update all nodes, then `huahuo cluster finalize`"


type _Act = Callable[[Follower | Projection, str], Awaitable[dict[str, Any]]]
"""Does something with a follower for somebody, and returns more fields of `success`."""


class _Nothing(Struct, frozen=True):
    pass


class _Named(Struct, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=64)]


def actions(host: Host, catalog: Catalog, followers: Followers) -> list[Action]:
    """What administrators may ask of a running service."""
    log, kept = host.log, host.projections

    async def listed(call: Call[_Nothing]) -> Reply:
        del call
        rows = await projections(log, catalog)
        data = [*rows, *await followers.standing(), *(one.standing() for one in kept.values())]
        return _said({"type": "get_projections", "data": data, "position": log.position})

    def on(act: _Act) -> Callable[[Call[_Named]], Awaitable[Reply]]:
        async def handle(call: Call[_Named]) -> Reply:
            one = followers.by_name.get(call.params.name) or kept.get(call.params.name)
            if one is None:
                known = (*followers.by_name, *kept)
                return error_reply(Refusal("not_found", no_follower(call.params.name, known)))
            return _said({"type": "success", **await act(one, call.principal.name)})

        return handle

    async def rebuild(call: Call[_Named]) -> Reply:
        name, by = call.params.name, call.principal.name
        projection = kept.get(name)
        if projection is not None:
            await projection.rebuild(by)
            return _said({"type": "success"})
        if name not in tables(log, catalog):
            return error_reply(Refusal("not_found", f"{name} is not made anew while the service runs"))
        if host.shared and name in catalog.derived and not await projection_rows.is_final(log, catalog, name):
            return error_reply(Refusal("conflict", NOT_FINAL))
        try:
            rows = await rebuild_rows(log, name, catalog, now_ms=host.ambient.now_ms(), by=by)
        except Superseded as why:
            return error_reply(Refusal("conflict", str(why)))
        return _said({"type": "success", "rows": rows, "states": name in catalog.derived})

    async def pause(one: Follower | Projection, by: str) -> dict[str, Any]:
        await one.pause(by, paused=True)
        return {}

    async def resume(one: Follower | Projection, by: str) -> dict[str, Any]:
        await one.pause(by, paused=False)
        return {}

    async def retry(one: Follower | Projection, by: str) -> dict[str, Any]:
        return {"dead_letters": await one.retry(by)}

    return [
        Action("get_projections", _Nothing, listed, query=True, admin=True),
        Action("pause_projection", _Named, on(pause), admin=True, frees=True),
        Action("resume_projection", _Named, on(resume), admin=True, frees=True),
        Action("retry_projection", _Named, on(retry), admin=True, frees=True),
        Action("rebuild_projection", _Named, rebuild, admin=True, frees=True),
    ]


async def projections(log: Tables, catalog: Catalog) -> list[Standing]:
    """The tables of rows. They change in the commits of the events, so none is ever behind."""
    head, old = log.position, await outdated(log, catalog)
    rows = [
        Standing(name, ROWS, head, 0, OTHER_CODE if name in old else UP_TO_DATE)
        for name in tables(log, catalog)
    ]
    unknown = [name for name in await remembered(log) if name not in {row.name for row in rows}]
    rows += [Standing(name, ROWS, head, 0, UNKNOWN) for name in unknown]
    return [Standing(TIMERS, ROWS, head, 0, UP_TO_DATE), *rows]


async def at_rest(
    log: Tables, catalog: Catalog, declared: Collection[str] | None, indexes: Collection[str] = ()
) -> list[Standing]:
    """Where everything stands on a log that no service has open.

    `declared`: followers of the application, None if it is not known. `indexes`: what plug-ins keep.
    """
    found = await projections(log, catalog)
    for name in sorted({*(declared or ()), *await record.names(log)}):
        one = await record.standing(log, name)
        shown = one.state if declared is None or name in declared else UNKNOWN
        found.append(replace(one, what=INDEX if name in indexes else FOLLOWER, state=shown))
    return found


def no_follower(name: str, there_are: Iterable[str]) -> str:
    """What to say of a name that no follower has."""
    names = ", ".join(sorted(there_are))
    return f"there is no follower {name!r}: {f'there are {names}' if names else 'the application has none'}"


def _said(body: dict[str, Any]) -> Reply:
    return Reply(msgspec.json.encode(body))
