"""What a commit writes, as SQL: its events with the new names in them, and its changes.

Each statement releases the interpreter lock and must get it back. Against a busy event loop that takes up
to 5 ms: an import of 2,000 mailboxes with one statement for each secret held the writer for seconds. So
there are one or two statements for each change, and few for many changes of a kind or many events. A long
append is written in stretches, so that the loop gets the lock in between.

How far a replica applied the ordered log is one value in `meta`, with the newest ends of its chain. It is
written in the transaction of the group that it is about, so that neither is ever without the other.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import batched, chain, groupby
from typing import Final

import msgspec

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.storage_port import (
    PASSED_KEPT,
    Change,
    DropBlob,
    DropRow,
    DropSealed,
    EndStream,
    ForgetUser,
    Loaded,
    Passed,
    Prune,
    PutAcks,
    PutAge,
    PutBlob,
    PutCommand,
    PutCounter,
    PutKey,
    PutKeyframe,
    PutPassed,
    PutRow,
    PutSealed,
    Shred,
    Touch,
)
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.limits import KEYFRAME_SPAN, KEYFRAMES_KEPT
from huahuo.eventstore.model import Ack, StoredEvent
from huahuo.eventstore.replicated.state_machine import load_shared
from huahuo.eventstore.sqlite import schema
from huahuo.eventstore.sqlite.names import PUT_ENDED, Names, select_numbers
from huahuo.eventstore.sqlite.schema import Value, get_meta, must_fit, row_crc
from huahuo.eventstore.sqlite.unindexed import Row

SHARED_KEY = "shared"
_PASSED_PLACE: Final = "the note of what this node has applied"
MAKE_PASSED = (
    "CREATE TABLE IF NOT EXISTS passed"
    " (offset INTEGER PRIMARY KEY, chain BLOB NOT NULL, digest BLOB NOT NULL, crc INTEGER NOT NULL) STRICT"
)


def statements_of_passed(put: PutPassed) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """The statements for it."""
    crc = row_crc("meta", SHARED_KEY, put.shared)
    yield "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (SHARED_KEY, put.shared, crc)
    for one in put.passed:
        crc = row_crc("passed", one.offset, one.chain, one.digest)
        yield "INSERT OR REPLACE INTO passed VALUES (?, ?, ?, ?)", (one.offset, one.chain, one.digest, crc)
    if put.passed:
        yield "DELETE FROM passed WHERE offset <= ?", (put.passed[-1].offset - PASSED_KEPT,)


def leave_order(connection: sqlite3.Connection) -> None:
    """Forget the ordered log: from here on this is the log of a single service."""
    connection.execute("DELETE FROM meta WHERE key = ?", (SHARED_KEY,))
    connection.execute("DELETE FROM passed")


def follows_an_order(connection: sqlite3.Connection) -> bool:
    """Whether the log is a node's replica, as far as its rows say: one of the two may be lost."""
    return get_meta(connection, SHARED_KEY) is not None or next(_passed_rows(connection), None) is not None


def read_passed(connection: sqlite3.Connection) -> tuple[bytes, tuple[Passed, ...]] | None:
    """What the last `PutPassed` wrote, and the newest ends; None if the log is no replica. In a transaction.

    A row that was lost, or an older copy of one, fits its checksum. So the rows are compared with one another
    and with the end of the log: a node that took a wrong one for its own would apply proposals twice, or
    would believe that the others differ.

    Raises:
        Corrupt: it is not what was written.
    """
    shared, passed = get_meta(connection, SHARED_KEY), tuple(_passed_rows(connection))
    if shared is None and not passed:
        return None
    if shared is None:
        raise Corrupt(_PASSED_PLACE, f"it is missing, and proposals up to {passed[-1].offset} were applied")
    noted = load_shared(shared)
    if [one.offset for one in passed] != [*range(noted.offset - len(passed) + 1, noted.offset + 1)]:
        raise Corrupt(
            _PASSED_PLACE, f"it says {noted.offset}, and the rows before it are others, or not all there"
        )
    row = connection.execute("SELECT chain FROM event ORDER BY position DESC LIMIT 1").fetchone()
    end = Passed(noted.offset, row[0] if row else GENESIS, noted.digest)
    if passed[-1:] != (end,):
        raise Corrupt(
            _PASSED_PLACE, f"what was applied up to proposal {noted.offset} is not what the log ends with"
        )
    return shared, passed


def with_passed(connection: sqlite3.Connection, loaded: Loaded) -> Loaded:
    """`loaded` with what `read_passed` finds. Raises as that."""
    found = read_passed(connection)
    return loaded if found is None else msgspec.structs.replace(loaded, shared=found[0], passed=found[1])


def _passed_rows(connection: sqlite3.Connection) -> Iterator[Passed]:
    """The newest ends, oldest first."""
    for offset, after, digest, crc in connection.execute("SELECT * FROM passed ORDER BY offset"):
        must_fit(crc, "passed", offset, after, digest)
        yield Passed(offset, after, digest)


AGE_KEY = "command_age"
"""Key in `meta` of the clock of the command records, an `AgeNote`."""

type Values = tuple[Value, ...] | dict[str, Value]

_PUT_META = "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)"
_PUT_COUNTER = (
    "INSERT INTO counter VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
    " SET next = max(next, excluded.next), crc = row_crc('counter', name, max(next, excluded.next))"
)
_PUT_ACKS = (
    "INSERT INTO ack VALUES %s ON CONFLICT (user, client, stream) DO UPDATE SET seq = excluded.seq,"
    " crc = excluded.crc WHERE excluded.seq > ack.seq"
)
_ACKS_A_STATEMENT = 64
_ROWS_A_STATEMENT = (256, 64, 16, 4, 1)
"""Few sizes, so that SQLite's cache holds all the prepared statements."""
_PUT_COMMANDS = "INSERT OR REPLACE INTO command VALUES"
_COMMAND_WIDTH = 9
_PUT_ROWS = "INSERT OR REPLACE INTO projection VALUES"
_PUT_KEYS = "INSERT OR REPLACE INTO data_key VALUES"
_PUT_SEALED = "INSERT OR REPLACE INTO sealed VALUES"
_DROP_ROWS = "DELETE FROM projection WHERE tbl = ? AND part = ? AND key IN ("
_SHRED = ("DELETE FROM data_key WHERE owner IN (", "DELETE FROM sealed WHERE owner IN (")
_BLOB_FITS = "crc = row_crc('blob', id, refs, packed)"
_PUT_BLOB = (
    "INSERT INTO blob VALUES (?, 1, ?, ?) ON CONFLICT (id) DO UPDATE SET refs = refs + 1,"  # noqa: S608  constants
    f" packed = CASE WHEN {_BLOB_FITS} THEN packed ELSE excluded.packed END,"
    f" crc = CASE WHEN {_BLOB_FITS} THEN row_crc('blob', id, refs + 1, packed)"
    " WHEN crc = row_crc('blob', id, refs, excluded.packed)"
    " THEN row_crc('blob', id, refs + 1, excluded.packed) ELSE crc END"
)
"""A row whose content is damaged gets the content that is put. One whose count may be wrong stays damaged."""
_DROP_BLOB = (
    f"UPDATE blob SET refs = refs - 1, crc = CASE WHEN {_BLOB_FITS}"  # noqa: S608  constants
    " THEN row_crc('blob', id, refs - 1, packed) ELSE crc END WHERE id = ?"
)
_DELETE_BLOB = f"DELETE FROM blob WHERE id = ? AND refs < 1 AND {_BLOB_FITS}"  # noqa: S608  constants
"""A row that does not fit its checksum may have more owners than it counts, so it stays."""
_BURY = (
    "INSERT INTO pruned SELECT event.position, event.stream, event.seq, chain, found.crc"
    " FROM event JOIN seq_index AS found ON found.stream = event.stream AND found.seq = event.seq"
    " WHERE event.position IN (SELECT value FROM json_each(?))"
)
_UNINDEX = (
    "DELETE FROM seq_index WHERE (stream, seq) IN"
    " (SELECT stream, seq FROM event WHERE position IN (SELECT value FROM json_each(?)))"
)
_SET_FIRST = "UPDATE stream SET first = ?, crc = row_crc('stream', id, ?, ?) WHERE name = ?"
"""With the name that was asked for: a damaged one in the row must not fit from then on."""
_DROP_OLD_KEYFRAMES = (
    "DELETE FROM keyframe WHERE stream = :stream AND fold = :fold AND (fingerprint <> :fingerprint"
    " OR (seq NOT IN (SELECT seq FROM keyframe WHERE stream = :stream AND fold = :fold"
    " AND fingerprint = :fingerprint ORDER BY seq DESC LIMIT :kept) AND seq NOT IN"
    " (SELECT min(seq) FROM keyframe WHERE stream = :stream AND fold = :fold"
    " AND fingerprint = :fingerprint AND seq >= :span GROUP BY seq / :span)))"
)


def _put_acks(acks: Sequence[Ack]) -> tuple[str, tuple[Value, ...]]:
    values: list[Value] = []
    for ack in acks:
        values += _summed("ack", ack.user, ack.client, ack.stream, ack.seq)
    return _PUT_ACKS % ", ".join(["(?, ?, ?, ?, ?)"] * len(acks)), tuple(values)


def statements_of(
    changes: Iterable[Change], tally: schema.Tally | None = None
) -> Iterator[tuple[str, Values]]:
    """The statements for `changes`, in order. A run of changes of one kind takes few statements.

    Command records come last, all together: nothing else is in their table.
    """
    commands: list[Value] = []
    tally = tally or schema.Tally()
    for kind, run in groupby(changes, _kind):
        match kind:
            case _Kind.ROWS:
                yield from _rows(run)
            case _Kind.KEYS:
                keys = [_summed("data_key", c.owner, c.wrapped) for c in run if isinstance(c, PutKey)]
                yield from _many(_PUT_KEYS, keys)
            case _Kind.BOXES:
                boxes = [
                    _summed("sealed", c.owner, c.name, c.sealed) for c in run if isinstance(c, PutSealed)
                ]
                yield from _many(_PUT_SEALED, boxes)
            case _Kind.SHREDS:
                owners: list[tuple[Value, ...]] = [(c.owner,) for c in run if isinstance(c, Shred)]
                for start in _SHRED:
                    yield from _many(start, owners, row="?", end=")")
            case _Kind.COMMANDS:
                _add_commands(commands, run)
            case _:  # OTHER
                for change in run:
                    yield from schema.usage_before(change, tally)
                    yield from _statements(change)
                    yield from schema.usage_after(change)
    yield from _filled(_PUT_COMMANDS, commands, _COMMAND_WIDTH)


class _Kind(Enum):
    """Kinds of changes whose runs are written together."""

    ROWS = "rows"
    KEYS = "keys"
    BOXES = "boxes"
    SHREDS = "shreds"
    COMMANDS = "commands"
    OTHER = "other"


_KINDS = {
    PutRow: _Kind.ROWS, PutKey: _Kind.KEYS, PutSealed: _Kind.BOXES, Shred: _Kind.SHREDS,
    PutCommand: _Kind.COMMANDS,
}  # fmt: skip


def _kind(change: Change) -> _Kind:
    if type(change) is DropRow:
        return _Kind.OTHER if change.row.key is None else _Kind.ROWS
    return _KINDS.get(type(change), _Kind.OTHER)


def _add_commands(values: list[Value], changes: Iterable[Change]) -> None:
    """Add the columns of the rows of command records to `values`, each row with its checksum."""
    for change in changes:
        assert isinstance(change, PutCommand), "a run is of one kind"
        record = change.record
        key = record.key
        row = (
            key.user, key.client, key.id, record.fingerprint, record.reply,
            record.at_stream, record.at_seq, change.at_ms,
        )  # fmt: skip
        values += row
        values.append(row_crc("command", *row))


def _rows(changes: Iterable[Change]) -> Iterator[tuple[str, Values]]:
    """Puts and drops of rows. For each key only the last change is written, so the order does not matter."""
    values: dict[tuple[Value, ...], Value] = {}
    for change in changes:
        if isinstance(change, PutRow):
            row = change.row
            values[row.table, row.part, row.key] = row.value
        else:
            assert isinstance(change, DropRow), "a run is of rows"
            values[change.row.table, change.row.part, change.row.key] = None
    dropped: dict[tuple[Value, Value], list[Value]] = {}
    for (table, part, key), value in values.items():
        if value is None:
            if (table, part) not in dropped:
                dropped[table, part] = []
            dropped[table, part].append(key)
    for place, keys in dropped.items():  # a part at a time: SQLite then needs a third of the time for a row
        yield from _filled(_DROP_ROWS, keys, 1, row="?", end=")", before=place)
    puts = [_summed("projection", *key, value) for key, value in values.items() if value is not None]
    yield from _many(_PUT_ROWS, puts)


def _many(
    start: str, rows: Sequence[tuple[Value, ...]], *, row: str = "", end: str = ""
) -> Iterator[tuple[str, Values]]:
    """Statements that begin with `start`, followed by as many rows as fit."""
    if not rows:
        return
    yield from _filled(start, list(chain.from_iterable(rows)), len(rows[0]), row=row, end=end)


def _filled(
    start: str,
    values: list[Value],
    width: int,
    *,
    row: str = "",
    end: str = "",
    before: tuple[Value, ...] = (),
) -> Iterator[tuple[str, Values]]:
    """As `_many`, of rows of `width` columns, one behind the other. `before`: what `start` binds."""
    row = row or f"({', '.join('?' * width)})"
    at = 0
    for count in _ROWS_A_STATEMENT:
        size = count * width
        while len(values) - at >= size:
            yield f"{start} {', '.join([row] * count)}{end}", (*before, *values[at : at + size])
            at += size


def _statements(change: Change) -> Iterator[tuple[str, Values]]:
    """As `statements_of`, for a change that is written alone."""
    match change:
        case DropRow(row) if row.key is None:
            yield "DELETE FROM projection WHERE tbl = ? AND part = ?", (row.table, row.part)
        case PutBlob(id=name, packed=packed):
            yield _PUT_BLOB, (name, packed, row_crc("blob", name, 1, packed))
        case DropBlob(id=name):
            yield _DROP_BLOB, (name,)
            yield _DELETE_BLOB, (name,)
        case DropSealed(owner, name):
            yield "DELETE FROM sealed WHERE owner = ? AND name = ?", (owner, name)
        case Prune(positions, firsts):
            chosen = msgspec.json.encode(positions).decode()
            yield _BURY, (chosen,)
            yield _UNINDEX, (chosen,)
            yield "DELETE FROM event WHERE position IN (SELECT value FROM json_each(?))", (chosen,)
            for stream, first in firsts.items():
                yield _SET_FIRST, (first, stream, first, stream)
        case EndStream(stream):
            yield PUT_ENDED, (stream,)
        case ForgetUser(user, streams):
            yield "DELETE FROM command WHERE user = ?", (user,)
            yield "DELETE FROM ack WHERE user = ?", (user,)
            yield "DELETE FROM usage WHERE user = ?", (user,)
            chosen = msgspec.json.encode(streams).decode()
            yield "DELETE FROM keyframe WHERE stream IN (SELECT value FROM json_each(?))", (chosen,)
        case PutCounter(counter, following):
            yield _PUT_COUNTER, _summed("counter", counter, following)
        case PutAcks(acks):
            whole = len(acks) - len(acks) % _ACKS_A_STATEMENT
            for start in range(0, whole, _ACKS_A_STATEMENT):
                yield _put_acks(acks[start : start + _ACKS_A_STATEMENT])
            for ack in acks[whole:]:
                yield _put_acks((ack,))
        case PutKeyframe(frame):
            where = (frame.stream, frame.fold, frame.fingerprint)
            yield (
                "INSERT OR REPLACE INTO keyframe VALUES (?, ?, ?, ?, ?, ?)",
                _summed("keyframe", *where, frame.seq, frame.state),
            )
            yield (
                _DROP_OLD_KEYFRAMES,
                {
                    "stream": frame.stream,
                    "fold": frame.fold,
                    "fingerprint": frame.fingerprint,
                    "kept": KEYFRAMES_KEPT,
                    "span": KEYFRAME_SPAN,
                },
            )
        case PutAge(age):
            yield _PUT_META, _summed("meta", AGE_KEY, msgspec.json.encode(age))
        case PutPassed():
            yield from statements_of_passed(change)
        case Touch(at_ms, pad_bytes):
            yield _PUT_META, _summed("meta", "touched", str(at_ms).encode().ljust(pad_bytes))


def _summed(table: str, *values: Value) -> tuple[Value, ...]:
    """A row with its checksum."""
    return (*values, row_crc(table, *values))


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
        connection.execute(INSERT_EVENT, _event_values(events, rows, names.ids))  # the most frequent group
        return
    if len(events) <= _STRETCH_EVENTS:
        _insert_in_statements(connection, names, events, rows)
        return
    for start in range(0, len(events), _STRETCH_EVENTS):
        end = start + _STRETCH_EVENTS
        _insert_in_statements(connection, names, events[start:end], rows[start:end])


def _insert_in_statements(
    connection: sqlite3.Connection, names: Names, events: Sequence[StoredEvent], rows: Sequence[Row]
) -> None:
    try:
        statements = _insert_statements(events, rows, names.ids)
    except KeyError:
        _name_texts(
            connection, names, {text for e in events for text in (e.type, e.build)} - names.ids.keys()
        )
        statements = _insert_statements(events, rows, names.ids)
    for sql, values in statements:
        connection.execute(sql, values)


def _insert_statements(
    events: Sequence[StoredEvent], rows: Sequence[Row], ids: dict[str, int]
) -> list[tuple[str, list[object]]]:
    """The statements that write `events`. Raises KeyError for a name that has no number yet."""
    statements: list[tuple[str, list[object]]] = []
    values = _event_values(events, rows, ids)
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


def _event_values(events: Sequence[StoredEvent], rows: Sequence[Row], ids: dict[str, int]) -> list[object]:
    """The columns of all `events` in a row. Raises KeyError for a name that has no number yet."""
    values: list[object] = []
    for e, (stream, seq, position, _) in zip(events, rows, strict=True):
        values += (
            position, stream, seq, ids[e.type], e.version, e.ts_ms, e.entity,
            e.principal, e.command_id, e.cause, ids[e.build], e.body, e.chain,
        )  # fmt: skip
    return values
