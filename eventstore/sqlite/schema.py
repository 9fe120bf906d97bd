"""The tables of the SQLite engine.

meta        one value per key: log id, writer epoch, mark of the master key, time of the last probe
name        texts that repeat in every event (types, builds), by number
stream      streams by number; `first` = oldest seq still kept
ended       streams of which nothing is kept in memory (`huahuo.eventstore.sqlite.names`)
event       the log
seq_index   positions by stream and seq, except the newest events (`huahuo.eventstore.sqlite.seq_index`)
pruned      tombstones: the place and the link of each pruned event
command     answers of commands, kept at least 7 days
counter     the next number of each counter
data_key    wrapped data keys; sealed = secrets under them
blob        packed content with its reference count
projection  sorted rows of named projections
keyframe    packed states of folds
ack         processed positions of clients
usage       bytes that each user takes (`huahuo.eventstore.sqlite.schema`)
passed      of a replica: what it had after each of the newest proposals (`changes`)

Rows outside the hash chain end with `crc`, their checksum (`row_crc`) over the
columns before it; in `seq_index` and `pruned` it is the running checksum of the stream.

Checksums guard against accidental damage of the disk; the hash chain, which guards against forgers, costs
a hash for each event and needs the event before it. Rows outside the chain carry a CRC-32 over their
table's name, their key and their value, so a value that was moved to another row does not fit. Each stream
has a running CRC-32, kept with the position of each event in `seq_index`:

    crc[0] = CRC-32 of the stream's name
    crc[n] = CRC-32 of `,` and the body of event n, going on from crc[n-1]

so the bodies of events a+1 to b, joined by commas, are proven by two numbers: they lead from crc[a] to
crc[b]. A pruned event keeps its checksum in its tombstone, so the remaining events need not be summed
again.

`usage` has one row per user: bytes of its events, and of the blobs that were stored for it. An event
belongs to the user of its stream (`user/42`), or else to the user that caused it (its principal). The
table is a little behind: it counts the events up to the position `meta.counted`. Both change in one
transaction, so a crash loses no event and counts none twice. Pruned events that were counted are
subtracted with their pruning; blobs are counted as they come and go. Events are counted by statements of at
most `SLICE_EVENTS`: 1 to 3 µs an event.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any, Final
from zlib import crc32

import msgspec

from huahuo.eventstore.errors import Corrupt, EventStoreError

_encode = msgspec.msgpack.Encoder().encode

type Value = str | bytes | int | None
type Values = Sequence[Value] | dict[str, Value]

_ROWS_MAX = 256
"""More rows in a statement cost more than they save."""
_ANY_COUNT_MAX = 16
"""Up to so many rows take one statement. Of more, few sizes are used, so that all of them stay prepared."""


def in_statements(
    start: str,
    values: Sequence[Value],
    width: int,
    *,
    row: str = "",
    end: str = "",
    before: Sequence[Value] = (),
) -> Iterator[tuple[str, Sequence[Value]]]:
    """Few statements that begin with `start`, each followed by as many rows of `width` columns as fit.

    `values`: of all rows, one behind the other. `before`: what `start` binds.
    """
    at = 0
    while left := (len(values) - at) // width:
        count = left if left <= _ANY_COUNT_MAX else min(1 << left.bit_length() - 1, _ROWS_MAX)
        size = count * width
        yield _sql(start, row, width, count, end), (*before, *values[at : at + size])
        at += size


@lru_cache(maxsize=512)
def _sql(start: str, row: str, width: int, count: int, end: str) -> str:
    return f"{start} {', '.join([row or f'({", ".join("?" * width)})'] * count)}{end}"


def crc_of_name(stream: str) -> int:
    """The running checksum before the first event of `stream`."""
    return crc32(stream.encode())


def crc_after(before: int, bodies: bytes) -> int:
    """The running checksum after a body, or after several that are joined by commas."""
    return crc32(bodies, crc32(b",", before))


def unlike(crc: int) -> int:
    """A number other than `crc`, for an event that was damaged already when it was summed."""
    return crc ^ 1


def row_crc(table: str, *values: Value) -> int:
    """The checksum of a row: its key, then its value."""
    return crc32(_encode((table, *values)))


def must_fit(crc: int, table: str, *values: Value) -> None:
    """Compare a row with its checksum.

    Raises:
        Corrupt: it is not what was written.
    """
    if row_crc(table, *values) != crc:
        raise Corrupt(f"{_CALLED.get(table, table)} {_key(values)}", "it does not fit its checksum")


def must_all_fit(table: str, columns: Sequence[Sequence[Value]], crcs: Sequence[int]) -> None:
    """As `must_fit` for many rows, given as their columns: no step of the interpreter for each row.

    Raises:
        Corrupt: for the first that is not what was written.
    """
    if [*map(crc32, map(_encode, zip(repeat(table), *columns)))] != [*crcs]:
        for crc, *values in zip(crcs, *columns, strict=True):
            must_fit(crc, table, *values)


def fitting(table: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows of `table` without their last column, which is their checksum. Few calls for each row.

    Raises:
        Corrupt: as `must_fit`.
    """
    for row in rows:
        values = row[:-1]
        if row[-1] != crc32(_encode((table, *values))):
            must_fit(row[-1], table, *values)
        yield values


_CALLED = {
    "command": "command record", "projection": "projection row", "data_key": "data key",
    "stream": "name of stream number", "name": "name of a type or build, number",
    "usage": "bytes that are counted for",
}  # fmt: skip
_KEY_COLUMNS_MAX = 3


def _key(values: Sequence[Value]) -> str:
    """The key of a row without its value; bytes in hexadecimal."""
    key = values[:-1][:_KEY_COLUMNS_MAX]
    return " ".join(part.hex() if isinstance(part, bytes) else str(part) for part in key)


def register(connection: sqlite3.Connection) -> None:
    """Make `row_crc` known to the statements of `connection`."""
    connection.create_function("row_crc", -1, row_crc, deterministic=True)


FIRST_NUMBER = "first_number"
"""Key of the first number of a counter without a row, since its row may be among what a salvage lost."""


def put_meta(connection: sqlite3.Connection, key: str, value: bytes) -> None:
    """Write a value."""
    sql = "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)"
    connection.execute(sql, (key, value, row_crc("meta", key, value)))


def get_meta(connection: sqlite3.Connection, key: str) -> bytes | None:
    """The value of `key`, None if it has none.

    Raises:
        Corrupt: it is not what was written.
    """
    row = connection.execute("SELECT value, crc FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    value: bytes = row[0]
    if row[1] != row_crc("meta", key, value):
        raise Corrupt(f"the log's own value `{key}`", "it does not fit its checksum")
    return value


MAKE_USAGE: Final = (
    "CREATE TABLE IF NOT EXISTS usage (user TEXT PRIMARY KEY, events INTEGER NOT NULL,"
    " blobs INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT, WITHOUT ROWID"
)
USAGE_COLUMNS: Final = ("user", "events", "blobs")
"""What the checksum of a row covers."""
SLICE_EVENTS: Final = 4096
EVENT_BYTES: Final = 128
"""What an event takes besides its body, by estimate."""
SELECT_USAGE: Final = "SELECT user, events, blobs, crc FROM usage"
_SUMMED_AGAIN: Final = (
    "crc = CASE WHEN usage.crc = row_crc('usage', usage.user, usage.events, usage.blobs)"
    " THEN row_crc('usage', usage.user, {}, {}) ELSE usage.crc END"
)
"""The checksum of a changed row. One that did not fit before must not fit from then on."""
_MORE_EVENTS: Final = (
    "ON CONFLICT (user) DO UPDATE SET events = usage.events + excluded.events, "
    + _SUMMED_AGAIN.format("usage.events + excluded.events", "usage.blobs")
)
FORGET_EVENTS: Final = "UPDATE usage SET events = 0, " + _SUMMED_AGAIN.format(0, "blobs")  # noqa: S608  constants
"""They are counted again from the first one. For a log whose rows have checksums."""
SELECT_COUNTED: Final = "SELECT value FROM meta WHERE key = 'counted'"
_COUNTED: Final = f"coalesce((SELECT CAST(CAST(value AS TEXT) AS INTEGER) FROM ({SELECT_COUNTED})), 0)"  # noqa: S608
_OWNER: Final = (
    "CASE WHEN substr(stream.name, 1, 5) = 'user/' THEN stream.name"
    " WHEN substr(event.principal, 1, 5) = 'user/' THEN event.principal END"
)
_BYTES: Final = (
    f"SELECT {_OWNER} AS owner, sum(length(event.body) + {EVENT_BYTES}) AS bytes"  # noqa: S608  constants
    " FROM event JOIN stream ON stream.id = event.stream WHERE {} GROUP BY event.stream, event.principal"
)
_NEXT_EVENTS: Final = f"event.position > {_COUNTED} AND event.position <= {_COUNTED} + {SLICE_EVENTS}"
COUNT_EVENTS: Final = (
    "INSERT INTO usage SELECT owner, sum(bytes), 0, row_crc('usage', owner, sum(bytes), 0) FROM ("  # noqa: S608
    + _BYTES.format(_NEXT_EVENTS)
    + ") WHERE owner IS NOT NULL GROUP BY owner "
    + _MORE_EVENTS
)
MARK_COUNTED: Final = (
    "INSERT OR REPLACE INTO meta SELECT 'counted', value, row_crc('meta', 'counted', value) FROM"  # noqa: S608
    f" (SELECT CAST(CAST(min({_COUNTED} + {SLICE_EVENTS}, (SELECT max(position) FROM event)) AS TEXT)"
    " AS BLOB) AS value) WHERE value IS NOT NULL"
)
_CHOSEN: Final = f"event.position IN (SELECT value FROM json_each(?)) AND event.position <= {_COUNTED}"  # noqa: S608
UNCOUNT_EVENTS: Final = (
    "UPDATE usage SET events = max(0, events - gone.bytes), "  # noqa: S608  constants
    + _SUMMED_AGAIN.format("max(0, usage.events - gone.bytes)", "usage.blobs")
    + " FROM (SELECT owner, sum(bytes) AS bytes FROM ("
    + _BYTES.format(_CHOSEN)
    + ") GROUP BY owner) AS gone WHERE usage.user = gone.owner"
)
COUNT_BLOB: Final = (
    "INSERT INTO usage SELECT owner, 0, bytes, row_crc('usage', owner, 0, bytes)"  # noqa: S608  constants
    " FROM (SELECT ? AS owner, length(packed) AS bytes FROM blob WHERE id = ?) WHERE true"
    " ON CONFLICT (user) DO UPDATE SET blobs = usage.blobs + excluded.blobs, "
    + _SUMMED_AGAIN.format("usage.events", "usage.blobs + excluded.blobs")
)
UNCOUNT_BLOB: Final = (
    "UPDATE usage SET blobs = max(0, usage.blobs - gone.bytes), "  # noqa: S608  constants
    + _SUMMED_AGAIN.format("usage.events", "max(0, usage.blobs - gone.bytes)")
    + " FROM (SELECT length(packed) AS bytes FROM blob WHERE id = ?) AS gone WHERE usage.user = ?"
)

FORMAT = 1
"""The format of the tables, kept in `user_version`. Another one is refused."""

DATABASE = "log.db"

PAGE_BYTES = 8192

TABLES: dict[str, tuple[dict[str, type], str | tuple[str, ...]]] = {
    "meta": ({"key": str, "value": bytes, "crc": int}, "key"),
    "name": ({"id": int, "text": str, "crc": int}, "id"),
    "stream": ({"id": int, "name": str, "first": int, "crc": int}, "id"),
    "event": (
        {
            "position": int,
            "stream": int,
            "seq": int,
            "type": int,
            "version": int,
            "ts": int,
            "entity": str,
            "principal": str,
            "command_id": str,
            "cause": int,
            "build": int,
            "body": bytes,
            "chain": bytes,
        },
        "position",
    ),
    "pruned": (
        {"position": int, "stream": int, "seq": int, "chain": bytes, "crc": int},
        "position",
    ),
    "command": (
        {
            "user": str,
            "client": str,
            "id": str,
            "fingerprint": bytes,
            "reply": bytes,
            "at_stream": str,
            "at_seq": int,
            "ts": int,
            "crc": int,
        },
        ("user", "client", "id"),
    ),
    "counter": ({"name": str, "next": int, "crc": int}, "name"),
    "data_key": ({"owner": str, "wrapped": bytes, "crc": int}, "owner"),
    "sealed": ({"owner": str, "name": str, "box": bytes, "crc": int}, ("owner", "name")),
    "blob": ({"id": str, "refs": int, "packed": bytes, "crc": int}, "id"),
    "projection": (
        {"tbl": str, "part": str, "key": bytes, "value": bytes, "crc": int},
        ("tbl", "part", "key"),
    ),
    "keyframe": (
        {"stream": str, "fold": str, "fingerprint": str, "seq": int, "state": bytes, "crc": int},
        ("stream", "fold", "fingerprint", "seq"),
    ),
    "ack": (
        {"user": str, "client": str, "stream": str, "seq": int, "crc": int},
        ("user", "client", "stream"),
    ),
}
UNIQUE = {"name": ("text",), "stream": ("name",)}
PRUNED_BY_SEQ = "CREATE INDEX pruned_by_seq ON pruned (stream, seq)"
SEQ_INDEX = (
    "CREATE TABLE seq_index (stream INTEGER NOT NULL, seq INTEGER NOT NULL, position INTEGER NOT NULL,"
    " crc INTEGER NOT NULL, PRIMARY KEY (stream, seq)) STRICT, WITHOUT ROWID"
)
SUMMED: dict[str, tuple[str, ...]] = {
    name: tuple(column for column in columns if column != "crc")
    for name, (columns, _) in TABLES.items()
    if "crc" in columns and name != "pruned"
} | {"usage": USAGE_COLUMNS}
"""The tables whose rows carry a checksum of their own, each with the columns that it covers, in order."""
COMMAND_FITS = f"crc = row_crc('command', {', '.join(SUMMED['command'])})"
"""A condition for the writer's statements: the command record fits its checksum."""


def tables(connection: sqlite3.Connection) -> set[str]:
    """The names of the tables that are in the file."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def known_format(connection: sqlite3.Connection) -> int:
    """The format of the tables, 0 if there are none.

    Raises:
        EventStoreError: they were made by a newer version.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise EventStoreError(
            f"a newer version of huahuo wrote this log: it has format {version}, and this one knows up to"
            f" {FORMAT}. Update huahuo, or restore a backup of before"
        )
    return version
