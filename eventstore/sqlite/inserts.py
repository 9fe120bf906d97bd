"""Writing events, and the new names in them, in few statements.

Each statement releases the interpreter lock and must get it back. Against a busy event loop that takes a
millisecond or more. A long append is written in stretches, so that the loop gets the lock in between.
"""

import sqlite3
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
    values = _values(events, rows, ids)
    at, end = 0, len(values)
    for count, sql in _INSERTS:
        width = count * _EVENT_COLUMNS
        while end - at >= width:
            statements.append((sql, values if width == end else values[at : at + width]))
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
