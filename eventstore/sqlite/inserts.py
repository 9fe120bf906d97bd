"""Writing events, and the names that are new in them, in few statements.

Each statement lets go of the interpreter lock and has to win it back, which takes a millisecond and more
beside a loop that never rests. Between two stretches of a long append the loop is let in for the same reason.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import batched

from huahuo.eventstore.core.sums import Value, row_crc
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.sqlite.ended import select_numbers
from huahuo.eventstore.sqlite.events import Names
from huahuo.eventstore.sqlite.seq_index import Row

INSERT_EVENT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_EVENT_COLUMNS = INSERT_EVENT.count("?")
_INSERTS = tuple(
    (rows, INSERT_EVENT + ", (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)" * (rows - 1))
    for rows in (256, 128, 64, 32, 16, 8, 4, 2, 1)
)
"""(rows, statement), the largest first: any number of rows in few statements. Beyond 256 rows one costs more
than it saves."""
_STRETCH_EVENTS = 256
_NAMES_A_STATEMENT = 256


def number_streams(connection: sqlite3.Connection, names: Names, events: Sequence[StoredEvent]) -> list[int]:
    """The number of the stream of each event; a stream that is new is written and gets one."""
    try:
        return [names.streams[e.stream] for e in events]
    except KeyError:  # few groups hold a name that is new
        _name_streams(connection, names, {e.stream for e in events if e.stream not in names.streams})
        return [names.streams[e.stream] for e in events]


def insert_events(
    connection: sqlite3.Connection, names: Names, events: Sequence[StoredEvent], rows: Sequence[Row]
) -> None:
    """Write `events`, whose places are `rows`, inside a transaction. New types and builds get numbers."""
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
        values = _values(events, rows, names.ids)
    except KeyError:
        _name_texts(
            connection, names, {text for e in events for text in (e.type, e.build)} - names.ids.keys()
        )
        values = _values(events, rows, names.ids)
    execute = connection.execute
    start, end = 0, len(values)
    for count, sql in _INSERTS:
        width = count * _EVENT_COLUMNS
        while end - start >= width:
            execute(sql, values if width == end else values[start : start + width])
            start += width


def _name_streams(connection: sqlite3.Connection, names: Names, new: set[str]) -> None:
    known = select_numbers(connection, [name for name in new if names.ended.may_hold(name)])
    [last] = connection.execute("SELECT coalesce(max(id), 0) FROM stream").fetchone()
    named = list(enumerate(sorted(new - known.keys()), last + 1))
    for some in batched(named, _NAMES_A_STATEMENT):
        values: list[Value] = []
        for number, name in some:
            values += (number, name, 1, row_crc("stream", number, name, 1))
        rows = ", ".join(["(?, ?, ?, ?)"] * len(some))
        connection.execute(f"INSERT INTO stream VALUES {rows}", values)  # noqa: S608  placeholders
    for number, name in (*named, *((number, name) for name, number in known.items())):
        names.streams[name] = number
        names.stream_names[number] = name


def _name_texts(connection: sqlite3.Connection, names: Names, new: Iterable[str]) -> None:
    for text in sorted(new):
        number = connection.execute("INSERT INTO name VALUES (NULL, ?, 0)", (text,)).lastrowid
        assert number is not None
        crc = row_crc("name", number, text)
        connection.execute("UPDATE name SET crc = ? WHERE id = ?", (crc, number))
        names.ids[text] = number
        names.texts[number] = text


def _values(events: Sequence[StoredEvent], rows: Sequence[Row], ids: dict[str, int]) -> list[object]:
    """What is stored of `events`, one after the other. Raises KeyError for a name that has no number yet."""
    values: list[object] = []
    for e, (stream, seq, position, _) in zip(events, rows, strict=True):
        values += (
            position, stream, seq, ids[e.type], e.version, e.ts_ms, e.entity,
            e.principal, e.command_id, e.cause, ids[e.build], e.body, e.chain,
        )  # fmt: skip
    return values
