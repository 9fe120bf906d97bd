"""Writing events, and the new names in them, in few statements.

Each statement releases the interpreter lock and must get it back. Against a busy event loop that takes a
millisecond or more. A long append is written in stretches, so that the loop gets the lock in between.
"""

import sqlite3
import sys
from collections.abc import Iterable, Sequence
from itertools import batched

from huahuo.eventstore.core.sums import Value, row_crc
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.sqlite.ended import select_numbers
from huahuo.eventstore.sqlite.names import Names
from huahuo.eventstore.sqlite.unindexed import Row

INSERT_EVENT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_EVENT_COLUMNS = INSERT_EVENT.count("?")
_INSERTS = tuple(
    (rows, INSERT_EVENT + ", (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)" * (rows - 1))
    for rows in (256, 128, 64, 32, *range(16, 0, -1))
)
"""(rows, statement), the largest first: up to 16 rows take one statement, any number takes few. A statement
of more than 256 rows costs more than it saves."""
_ALIKE_FROM = 16 if sys.version_info >= (3, 12, 4) else 1 << 62
"""Older versions warn of each numbered parameter: there all events are written by `_INSERTS`."""
_ALIKE_COLUMNS = 7
_ALIKE_INSERTS = tuple(
    (
        rows,
        "INSERT INTO event VALUES "  # noqa: S608  placeholders
        + ", ".join(f"(?6 + {row}, ?, ?, ?1, ?2, ?, ?, ?3, ?, ?4, ?5, ?, ?)" for row in range(rows)),
    )
    for rows in (256, 128, 64, 32, 16)
)
"""As `_INSERTS`, for events at consecutive positions that share type, version, principal, cause and build.
These are bound once, with the first position: a row then has seven values of its own in place of thirteen."""
_STRETCH_EVENTS = 256
_NAMES_A_STATEMENT = 256


def number_streams(connection: sqlite3.Connection, names: Names, events: Sequence[StoredEvent]) -> list[int]:
    """The stream number of each event. A new stream is written and gets a number."""
    known = names.streams
    try:
        return [known[e.stream] for e in events]
    except KeyError:  # rare: a group with a new name, or with a stream that rested
        new = {e.stream for e in events if e.stream not in known}
    names.unpack(new)
    new = {stream for stream in new if stream not in known}  # `-= known.keys()` would walk over all
    if new:
        _name_streams(connection, names, new)
    numbers = [known[e.stream] for e in events]
    names.pack()
    return numbers


def insert_events(
    connection: sqlite3.Connection, names: Names, events: Sequence[StoredEvent], rows: Sequence[Row]
) -> None:
    """Write `events` with their index rows `rows`, inside a transaction. New types and builds get numbers."""
    if len(events) == 1 and events[0].type in names.ids and events[0].build in names.ids:
        connection.execute(INSERT_EVENT, _values(events, rows, names.ids))  # the most frequent group
        return
    if len(events) <= _STRETCH_EVENTS:
        _insert(connection, names, events, rows)
        return
    for start in range(0, len(events), _STRETCH_EVENTS):
        end = start + _STRETCH_EVENTS
        _insert(connection, names, events[start:end], rows[start:end])


def _insert(
    connection: sqlite3.Connection, names: Names, events: Sequence[StoredEvent], rows: Sequence[Row]
) -> None:
    try:
        statements = _statements(events, rows, names.ids)
    except KeyError:
        _name_texts(
            connection, names, {text for e in events for text in (e.type, e.build)} - names.ids.keys()
        )
        statements = _statements(events, rows, names.ids)
    for sql, values in statements:
        connection.execute(sql, values)


def _statements(
    events: Sequence[StoredEvent], rows: Sequence[Row], ids: dict[str, int]
) -> list[tuple[str, list[object]]]:
    """The statements that write `events`. Raises KeyError for a name that has no number yet."""
    statements: list[tuple[str, list[object]]] = []
    at, end = 0, len(events)
    if end >= _ALIKE_FROM and _are_alike(events):
        for count, sql in _ALIKE_INSERTS:
            while end - at >= count:
                values = _alike_values(events[at : at + count], rows[at : at + count], ids)
                statements.append((sql, values))
                at += count
    left = _values(events[at:], rows[at:], ids) if at else _values(events, rows, ids)
    at, end = 0, len(left)
    for count, sql in _INSERTS:
        width = count * _EVENT_COLUMNS
        while end - at >= width:
            statements.append((sql, left if width == end else left[at : at + width]))
            at += width
    return statements


def _name_streams(connection: sqlite3.Connection, names: Names, new: set[str]) -> None:
    ended = [name for name in new if names.ended.may_hold(name)]
    known = select_numbers(connection, ended) if ended else {}
    [last] = connection.execute("SELECT coalesce(max(id), 0) FROM stream").fetchone()
    named = list(enumerate(sorted(new - known.keys()), last + 1))
    for some in batched(named, _NAMES_A_STATEMENT):
        values: list[Value] = []
        for number, name in some:
            values += (number, name, 1, row_crc("stream", number, name, 1))
        rows = ", ".join(["(?, ?, ?, ?)"] * len(some))
        connection.execute(f"INSERT INTO stream VALUES {rows}", values)  # noqa: S608  placeholders
    for number, name in (*named, *((number, name) for name, number in known.items())):
        names.add(name, number)


def _name_texts(connection: sqlite3.Connection, names: Names, new: Iterable[str]) -> None:
    for text in sorted(new):
        number = connection.execute("INSERT INTO name VALUES (NULL, ?, 0)", (text,)).lastrowid
        assert number is not None
        crc = row_crc("name", number, text)
        connection.execute("UPDATE name SET crc = ? WHERE id = ?", (crc, number))
        names.ids[text] = number
        names.texts[number] = text


def _values(events: Sequence[StoredEvent], rows: Sequence[Row], ids: dict[str, int]) -> list[object]:
    """The columns of all `events` in a row. Raises KeyError for a name that has no number yet."""
    values: list[object] = []
    for e, (stream, seq, position, _) in zip(events, rows, strict=True):
        values += (
            position, stream, seq, ids[e.type], e.version, e.ts_ms, e.entity,
            e.principal, e.command_id, e.cause, ids[e.build], e.body, e.chain,
        )  # fmt: skip
    return values


def _are_alike(events: Sequence[StoredEvent]) -> bool:
    """Whether `_ALIKE_INSERTS` can write them."""
    first, count = events[0], len(events)
    return (
        events[-1].position - first.position == count - 1
        and [e.type for e in events].count(first.type) == count
        and [e.principal for e in events].count(first.principal) == count
        and [e.version for e in events].count(first.version) == count
        and [e.cause for e in events].count(first.cause) == count
        and [e.build for e in events].count(first.build) == count
    )


def _alike_values(events: Sequence[StoredEvent], rows: Sequence[Row], ids: dict[str, int]) -> list[object]:
    """What they have in common, then the columns of each event, put together column by column."""
    first = events[0]
    own: list[object] = [None] * (_ALIKE_COLUMNS * len(events))
    own[0::7], own[1::7] = [row[0] for row in rows], [e.seq for e in events]
    own[2::7], own[3::7] = [e.ts_ms for e in events], [e.entity for e in events]
    own[4::7], own[5::7] = [e.command_id for e in events], [e.body for e in events]
    own[6::7] = [e.chain for e in events]
    return [
        ids[first.type], first.version, first.principal, first.cause, ids[first.build], first.position, *own,
    ]  # fmt: skip
