"""The rows of an application's projections: facts in the log, rows derived from states, their code.

A decision gives its rows itself, and a command cannot be decided a second time. So each change of a row is
also an event of the internal stream `projection/<table>`, in the same commit: a table can be made again
from these facts. Rows of `@order.rows("orders")` are a function of the state: those before and after a
decision are compared, and the differences are written in its commit. Nothing records them, because the
entities' own streams do, also for other code than that which wrote them. The fingerprint of that code is a
row. An event of an internal stream goes with each change of it, and all that writes the table expects the
head of that stream: what was computed before is refused as a conflict, in the order of the log, and
decided again. Where nodes share a log, the version that was made final writes, and a decision of a node
with other code notes that it leaves the rows out.
"""

from base64 import b64decode, b64encode
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.code_fingerprint import print_of
from huahuo.actors.domain.entity import Entity, Handler
from huahuo.actors.domain.fold import EntityFold
from huahuo.actors.domain.storable import is_table, refuse_lost
from huahuo.actors.domain.structs import Drop, Put, place_of
from huahuo.actors.entities.entity import Missing
from huahuo.actors.followers.record import Tables
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.limits import KEY_BYTES_MAX, NAME_CHARS_MAX
from huahuo.eventstore.model import Append, NewEvent, RowDrop, RowPut
from huahuo.eventstore.port import Log

KIND: Final = "projection"
STREAMS: Final = KIND + "/"
ROWS_CHANGED: Final = "rows_changed"
TABLE_PREFIX: Final = "app:"
"""Projections of applications have names of their own, so that none meets one of a plug-in."""
BUILT_IN: Final = "huahuo:"
"""Tables of the service's own kinds begin with this. Their rows are not recorded as facts."""
ROW_BYTES_MAX: Final = 1_000_000
"""With its key and part, a row fits into one event of 1 MiB."""
_FACT_BYTES: Final = 700 << 10
"""Changes that one event records, in bytes, or one larger change. An event has at most 1 MiB."""


_NO_VALUE: Final = Raw()


class OverBound(ValueError):  # noqa: N818  a refusal
    """A part of the decision is larger than it may be."""


class _Change(Struct, frozen=True, omit_defaults=True):
    """A row written, removed (without a value), or a whole part removed (without a key as well).

    A key that is no text stands in `key64`, as base64.
    """

    part: str = ""
    key: str | None = None
    key64: str | None = None
    value: Raw = _NO_VALUE


class _RowsChanged(Struct, frozen=True, tag_field="type", tag=ROWS_CHANGED):
    timestamp: str
    changes: list[Raw]


class _Changes(Struct, frozen=True):
    changes: list[_Change]


_decode: Final = msgspec.json.Decoder(_Changes).decode


def row(change: Put | Drop) -> RowPut | RowDrop:
    """A change of a projection.

    Raises:
        TypeError, ValueError: the table is no name, or the value cannot be stored.
        OverBound: the part, the key or the value has too many bytes.
    """
    if not isinstance(change, Put | Drop):
        raise TypeError(f"{type(change).__name__} is no Put or Drop")
    _must_have_texts(change)
    if not is_table(change.table.removeprefix(BUILT_IN)):
        raise ValueError(f"rows: {change.table!r} is no table: use 1 to 64 letters, digits or _ . -")
    if len(change.part) > NAME_CHARS_MAX:
        raise OverBound(f"a part of {len(change.part)} characters, at most {NAME_CHARS_MAX}")
    table = TABLE_PREFIX + change.table
    key = change.key.encode() if isinstance(change.key, str) else change.key
    if key is not None and len(key) > KEY_BYTES_MAX:
        raise OverBound(f"a row key of {len(key)} bytes, at most {KEY_BYTES_MAX}")
    if isinstance(change, Drop):
        return RowDrop(table, change.part, key)
    if key is None:
        raise TypeError("Put: a row has a key")
    try:
        value = msgspec.json.encode(change.value)
    except TypeError as error:
        raise TypeError(f"the row {change.key!r:.80} of {change.table!r}: {error}") from None
    refuse_lost(value, change.value, f"the row {change.key!r:.80} of {change.table!r}")
    if len(value) > ROW_BYTES_MAX:
        raise OverBound(f"a row of {len(value)} bytes, at most {ROW_BYTES_MAX}")
    return RowPut(table, change.part, key, value)


def _must_have_texts(change: Any) -> None:
    what = type(change).__name__
    for field in ("table", "part"):
        given = getattr(change, field)
        if not isinstance(given, str):
            raise TypeError(f"{what}: the {field} is a text: write str(…) around {given!r:.40}")
    if not isinstance(change.key, str | bytes | None):
        raise TypeError(f'{what}: the key is a text: write f"{{…:016d}}" in place of {change.key!r:.40}')


def facts(rows: Iterable[RowPut | RowDrop], entity: str, timestamp: str) -> Iterator[NewEvent]:
    """The events that record these rows, in their order for each table."""
    waiting: dict[str, list[Raw]] = {}
    sizes: dict[str, int] = {}
    for one in rows:
        table = one.table.removeprefix(TABLE_PREFIX)
        if table.startswith(BUILT_IN):
            continue
        change = Raw(msgspec.json.encode(_told(one)))
        changes, size = waiting.setdefault(table, []), len(bytes(change))
        if changes and sizes[table] + size > _FACT_BYTES:
            yield _fact(table, changes, entity, timestamp)
            changes.clear()
            sizes[table] = 0
        changes.append(change)
        sizes[table] = sizes.get(table, 0) + size
    for table, changes in waiting.items():
        yield _fact(table, changes, entity, timestamp)


def rows_in(table: str, body: bytes) -> Sequence[RowPut | RowDrop]:
    """The rows that an event of `projection/<table>` records."""
    return [_read(TABLE_PREFIX + table, change) for change in _decode(body).changes]


def _fact(table: str, changes: list[Raw], entity: str, timestamp: str) -> NewEvent:
    body = msgspec.json.encode(_RowsChanged(timestamp, changes))
    return NewEvent(STREAMS + table, ROWS_CHANGED, body, entity=entity)


def _told(one: RowPut | RowDrop) -> _Change:
    value = Raw(one.value) if isinstance(one, RowPut) else _NO_VALUE
    if one.key is None:
        return _Change(one.part)
    try:
        return _Change(one.part, key=one.key.decode(), value=value)
    except UnicodeDecodeError:
        return _Change(one.part, key64=b64encode(one.key).decode(), value=value)


def _read(table: str, change: _Change) -> RowPut | RowDrop:
    key = b64decode(change.key64) if change.key64 is not None else None
    if change.key is not None:
        key = change.key.encode()
    value = bytes(change.value)
    if key is None or not value:
        return RowDrop(table, change.part, key)
    return RowPut(table, change.part, key, value)


PARTS: Final = "parts"
"""The part of our own table that names the parts of each derived table, so that a rebuild can empty them."""

type Place = tuple[str, str, bytes]
"""The table, the part and the key of a row."""


class RowsFault(Exception):  # noqa: N818  the log's word
    """A function of `rows` answered something that cannot be stored. The text says where and what."""


def rows_of(entity: Entity[Any], state: Any, key: int | str, but: Container[str] = ()) -> dict[Place, RowPut]:
    """All rows that an entity in this state has, but those of some tables.

    Raises:
        RowsFault: an answer is no list of rows. OverBound: a row is too large. Others: as the functions.
    """
    found: dict[Place, RowPut] = {}
    for table, handler in entity.tables.items():
        if table in but:
            continue
        for put in _put(table, handler, handler(state, key)):
            found[put.table, put.part, put.key] = put
    return found


def changes(before: Mapping[Place, RowPut], after: Mapping[Place, RowPut]) -> list[RowPut | RowDrop]:
    """What makes the rows of one state those of another."""
    gone: list[RowPut | RowDrop] = [RowDrop(*place) for place in before if place not in after]
    return [*gone, *with_parts([put for place, put in after.items() if before.get(place) != put])]


def with_parts(puts: Iterable[RowPut]) -> list[RowPut]:
    """These rows, and what remembers their parts."""
    rows = list(puts)
    named = {(put.table, put.part) for put in rows}
    return [*rows, *(RowPut(KIND, PARTS, part_key(table, part), b"") for table, part in sorted(named))]


def parts_in(table: str, keys: Iterable[bytes]) -> list[str]:
    """The parts of a table, from the keys of all parts that are remembered."""
    prefix = part_key(TABLE_PREFIX + table, "")
    return [key.removeprefix(prefix).decode() for key in keys if key.startswith(prefix)]


def table_in(key: bytes) -> str:
    """The table of a remembered part."""
    return key.partition(b"\0")[0].decode()


def part_key(table: str, part: str) -> bytes:
    """The key that remembers a part."""
    return f"{table}\0{part}".encode()


def _put(table: str, handler: Handler, answer: object) -> Iterable[RowPut]:
    where = f"{place_of(handler)}: {handler.__name__}, the rows of {table!r}"
    if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
        raise RowsFault(f"{where}: it returns {type(answer).__name__}: return a list of Put({table!r}, …)")
    for put in answer:
        if not isinstance(put, Put) or put.table != table:
            raise RowsFault(f"{where}: it returns {put!r}: write Put({table!r}, part, key, value)")
        try:
            made = row(put)
        except TypeError as error:
            raise RowsFault(f"{where}: {error}") from None
        assert isinstance(made, RowPut), "a Put becomes one"
        yield made


ROWS_BEGUN: Final = "rows_begun"
_CODE: Final = "code"
_BEHIND: Final = "behind"


def stream_of(table: str) -> str:
    """The stream whose head all that writes the table expects. No table of an application has such a name."""
    return f"{STREAMS}{BUILT_IN}{table}"


def code_of(catalog: Catalog, table: str) -> bytes:
    """What changes with the code that makes a derived table. It is looked at once, before the code runs."""
    if table not in catalog.table_codes:
        made_by = (
            (one.kind, one.tables[table], EntityFold(one).fingerprint) for one in catalog.derived[table]
        )
        catalog.table_codes[table] = print_of(table, *(part for parts in made_by for part in parts)).encode()
    return catalog.table_codes[table]


def code_of_all(catalog: Catalog) -> str:
    """One fingerprint for all derived tables."""
    return print_of(*(code_of(catalog, table) for table in sorted(catalog.derived)))


async def code_in(log: Tables, table: str) -> bytes | None:
    """The fingerprint of the code that makes the table, None if none has."""
    return await log.row(KIND, _CODE, table.encode())


async def is_final(log: Tables, catalog: Catalog, table: str) -> bool:
    """Whether the code of this process makes the table."""
    return await code_in(log, table) == code_of(catalog, table)


async def is_behind(log: Tables, table: str) -> bool:
    """Whether a decision has left rows of it out since it was made anew."""
    return await log.row(KIND, _BEHIND, table.encode()) is not None


def behind(table: str) -> RowPut:
    """A decision left rows of the table out."""
    return RowPut(KIND, _BEHIND, table.encode(), b"")


def beginning(catalog: Catalog, table: str, seq: int, now_ms: int, by: str) -> Append:
    """The code of this process makes the table from now on. `seq`: the head of its stream so far."""
    stream, key = stream_of(table), table.encode()
    code = code_of(catalog, table) if table in catalog.derived else b""
    told = {"type": ROWS_BEGUN, "timestamp": rfc3339(now_ms), "code": code.decode()}
    event = NewEvent(stream, ROWS_BEGUN, msgspec.json.encode(told))
    rows = (RowPut(KIND, _CODE, key, code), RowDrop(KIND, _BEHIND, key)) if code else ()
    return Append(ts_ms=now_ms, events=(event,), expected={stream: seq}, rows=rows, principal=by)


class RowVersions:
    """Whether decisions of this process write the rows of a table. `shared`: other nodes write them too."""

    def __init__(self, catalog: Catalog, *, shared: bool) -> None:
        self._catalog = catalog
        self._shared = shared
        self._known: dict[str, tuple[int, bool]] = {}

    def writes(self, table: str, seq: int) -> bool:
        """Whether they do while the head of the table's stream is `seq`.

        Raises:
            Missing: that must be read first.
        """
        if not self._shared or not seq:
            return True
        at, writes = self._known.get(table, (0, False))
        if at != seq:
            raise VersionMissing(self, table)
        return writes

    async def read(self, log: Log, table: str) -> None:
        """Read by which code the table is made. A newer answer than `seq` is refused with the append."""
        seq = log.head(stream_of(table)).seq
        self._known[table] = (seq, await is_final(log, self._catalog, table))


class VersionMissing(Missing):
    """See `RowVersions.writes`."""

    def __init__(self, versions: RowVersions, table: str) -> None:
        super().__init__(table)
        self._versions, self._table = versions, table

    async def read(self, log: Log) -> None:
        """See `Missing`."""
        await self._versions.read(log, self._table)
