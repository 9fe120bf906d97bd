"""The rows of an application's projections as facts: what a table can be made again from. Pure.

A decision gives its rows itself, and a command cannot be decided a second time. So each change of a row is
also an event of the internal stream `projection/<table>`, in the same commit.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from huahuo.actors.domain.decision import Drop, Put
from huahuo.actors.domain.names import is_table
from huahuo.actors.domain.numbers import refuse_lost
from huahuo.eventstore.limits import KEY_BYTES_MAX, NAME_CHARS_MAX
from huahuo.eventstore.model import NewEvent, RowDrop, RowPut

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
