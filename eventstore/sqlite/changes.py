"""Changes as SQL statements: pure. One or two statements for each change, and few for many changes of a kind.

Each statement releases the interpreter lock and must get it back. Against a busy event loop that takes up to
5 ms: an import of 2,000 mailboxes with one statement for each secret held the writer for seconds.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import chain, groupby

import msgspec

from huahuo.eventstore.core.changes import (
    Change,
    DropBlob,
    DropRow,
    DropSealed,
    EndStream,
    ForgetUser,
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
from huahuo.eventstore.core.sums import Value, row_crc
from huahuo.eventstore.limits import KEYFRAME_SPAN, KEYFRAMES_KEPT
from huahuo.eventstore.model import Ack
from huahuo.eventstore.sqlite import passed, usage
from huahuo.eventstore.sqlite.ended import PUT_ENDED

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
_BLOB_FITS = "(crc IS NULL OR crc = row_crc('blob', id, refs, packed))"
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
    changes: Iterable[Change], tally: usage.Tally | None = None
) -> Iterator[tuple[str, Values]]:
    """The statements for `changes`, in order. A run of changes of one kind takes few statements.

    Command records come last, all together: nothing else is in their table.
    """
    commands: list[Value] = []
    tally = tally or usage.Tally()
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
                    yield from usage.before(change, tally)
                    yield from _statements(change)
                    yield from usage.after(change)
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
            yield from passed.statements(change)
        case Touch(at_ms, pad_bytes):
            yield _PUT_META, _summed("meta", "touched", str(at_ms).encode().ljust(pad_bytes))


def _summed(table: str, *values: Value) -> tuple[Value, ...]:
    """A row with its checksum."""
    return (*values, row_crc(table, *values))
