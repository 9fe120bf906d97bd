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
from itertools import groupby
from typing import Final

import msgspec
from msgspec.structs import astuple

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.storage_port import (
    PASSED_KEPT,
    Change,
    CountUsage,
    DropBlob,
    DropRow,
    DropSealed,
    EndStream,
    ForgetUser,
    Loaded,
    Passed,
    Prune,
    PutAcks,
    PutBlob,
    PutCommand,
    PutCounter,
    PutKey,
    PutKeyframe,
    PutMeta,
    PutPassed,
    PutRow,
    PutSealed,
    Shred,
)
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.limits import KEYFRAME_SPAN, KEYFRAMES_KEPT
from huahuo.eventstore.model import RowPut, StoredEvent
from huahuo.eventstore.replicated.state_machine import load_shared
from huahuo.eventstore.sqlite import schema
from huahuo.eventstore.sqlite.names import PUT_ENDED, Names, select_numbers
from huahuo.eventstore.sqlite.schema import Value, Values, get_meta, in_statements, must_fit, row_crc
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


_PUT_META = "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)"
_PUT_COUNTER = (
    "INSERT INTO counter VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
    " SET next = max(next, excluded.next), crc = row_crc('counter', name, max(next, excluded.next))"
)
_RAISE_ACKS = (
    " ON CONFLICT (user, client, stream) DO UPDATE SET seq = excluded.seq,"
    " crc = excluded.crc WHERE excluded.seq > ack.seq"
)
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


def statements_of(changes: Iterable[Change]) -> Iterator[tuple[str, Values]]:
    """The statements for `changes`, in order. A run of changes of one kind takes few statements.

    Command records come last, all together: nothing else is in their table.
    """
    commands: list[Value] = []
    for kind, run in groupby(changes, _kind):
        if kind is PutRow:
            yield from _rows(run)
        elif kind is PutCommand:
            for change in run:
                assert isinstance(change, PutCommand), "a run is of one kind"
                key, *answer = astuple(change.record)
                row = (*astuple(key), *answer, change.at_ms)
                commands += row
                commands.append(row_crc("command", *row))  # not `_summed`: a call for each command
        elif kind in _PUTS:
            table, width = _PUTS[kind]
            values = [value for change in run for value in _summed(table, *astuple(change))]
            yield from in_statements(f"INSERT OR REPLACE INTO {table} VALUES", values, width)
        elif kind is Shred:
            owners = [change.owner for change in run if isinstance(change, Shred)]
            for start in _SHRED:
                yield from in_statements(start, owners, 1, row="?", end=")")
        else:
            for change in run:
                yield from _statements(change)
    yield from in_statements("INSERT OR REPLACE INTO command VALUES", commands, _COMMAND_WIDTH)


_PUTS = {PutKey: ("data_key", 3), PutSealed: ("sealed", 4)}
"""Kinds that are a row as they are: its table, and how many columns that has."""
_COMMAND_WIDTH = 9


def _kind(change: Change) -> type:
    """What a run is of. Puts and drops of single rows are one kind."""
    if type(change) is DropRow:
        return DropRow if change.row.key is None else PutRow
    return type(change)


def _rows(changes: Iterable[Change]) -> Iterator[tuple[str, Values]]:
    """Puts and drops of rows. For each key only the last change is written, so the order does not matter."""
    values: dict[tuple[Value, ...], Value] = {}
    for change in changes:
        assert isinstance(change, PutRow | DropRow), "a run is of rows"
        row = change.row
        values[row.table, row.part, row.key] = row.value if isinstance(row, RowPut) else None
    dropped: dict[tuple[Value, Value], list[Value]] = {}
    puts: list[Value] = []
    for (table, part, key), value in values.items():
        if value is None:
            dropped.setdefault((table, part), []).append(key)
        else:
            puts += _summed("projection", table, part, key, value)
    for place, keys in dropped.items():  # a part at a time: SQLite then needs a third of the time for a row
        yield from in_statements(_DROP_ROWS, keys, 1, row="?", end=")", before=place)
    yield from in_statements("INSERT OR REPLACE INTO projection VALUES", puts, 5)


def _statements(change: Change) -> Iterator[tuple[str, Values]]:
    """As `statements_of`, for a change that is written alone."""
    match change:
        case DropRow(row) if row.key is None:
            yield "DELETE FROM projection WHERE tbl = ? AND part = ?", (row.table, row.part)
        case PutBlob(name, packed, owner):
            yield _PUT_BLOB, (name, packed, row_crc("blob", name, 1, packed))
            if owner:
                yield schema.COUNT_BLOB, (owner, name)
        case DropBlob(name, owner):
            if owner:
                yield schema.UNCOUNT_BLOB, (name, owner)
            yield _DROP_BLOB, (name,)
            yield _DELETE_BLOB, (name,)
        case DropSealed(owner, name):
            yield "DELETE FROM sealed WHERE owner = ? AND name = ?", (owner, name)
        case Prune(positions, firsts):
            chosen = msgspec.json.encode(positions).decode()
            yield schema.UNCOUNT_EVENTS, (chosen,)
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
            values = [value for ack in acks for value in _summed("ack", *astuple(ack))]
            yield from in_statements("INSERT INTO ack VALUES", values, 5, end=_RAISE_ACKS)
        case CountUsage():
            yield schema.COUNT_EVENTS, ()
            yield schema.MARK_COUNTED, ()
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
        case PutMeta(key, value):
            yield _PUT_META, _summed("meta", key, value)
        case PutPassed():
            yield from statements_of_passed(change)


def _summed(table: str, *values: Value) -> tuple[Value, ...]:
    """A row with its checksum."""
    return (*values, row_crc(table, *values))


INSERT_EVENT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_EVENT_COLUMNS = INSERT_EVENT.count("?")
_STRETCH_EVENTS = 256
"""So that the loop gets the interpreter in between."""


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
    ids = names.ids
    for start in range(0, len(events), _STRETCH_EVENTS):
        some, those_rows = events[start : start + _STRETCH_EVENTS], rows[start : start + _STRETCH_EVENTS]
        try:
            values = _event_values(some, those_rows, ids)
        except KeyError:
            _name_texts(connection, names, {text for e in some for text in (e.type, e.build)} - ids.keys())
            values = _event_values(some, those_rows, ids)
        for statement in in_statements("INSERT INTO event VALUES", values, _EVENT_COLUMNS):
            connection.execute(*statement)


def _name_streams(connection: sqlite3.Connection, names: Names, new: set[str]) -> None:
    ended = [name for name in new if names.ended.may_hold(name)]
    known = select_numbers(connection, ended) if ended else {}
    [last] = connection.execute("SELECT coalesce(max(id), 0) FROM stream").fetchone()
    named = list(enumerate(sorted(new - known.keys()), last + 1))
    values = [value for number, name in named for value in _summed("stream", number, name, 1)]
    for statement in in_statements("INSERT INTO stream VALUES", values, 4):
        connection.execute(*statement)
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


def _event_values(events: Sequence[StoredEvent], rows: Sequence[Row], ids: dict[str, int]) -> list[Value]:
    """The columns of all `events` in a row. Raises KeyError for a name that has no number yet."""
    values: list[Value] = []
    for e, (stream, seq, position, _) in zip(events, rows, strict=True):
        values += (
            position, stream, seq, ids[e.type], e.version, e.ts_ms, e.entity,
            e.principal, e.command_id, e.cause, ids[e.build], e.body, e.chain,
        )  # fmt: skip
    return values
