"""The tables of the SQLite engine.

meta        one value per key: log id, writer epoch, mark of the master key, time of the last probe
name        texts that repeat in every event (types, builds), by number
stream      streams by number; `first` = oldest seq still kept
ended       streams of which nothing is kept in memory (`huahuo.eventstore.sqlite.ended`)
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
usage       bytes that each user takes (`huahuo.eventstore.sqlite.usage`)
passed      of a replica: what it had after each of the newest proposals (`huahuo.eventstore.sqlite.passed`)

Rows outside the hash chain end with `crc`, their checksum (`huahuo.eventstore.core.sums.row_crc`) over the
columns before it; in `seq_index` and `pruned` it is the running checksum of the stream.
"""

import sqlite3

from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.usage import COLUMNS

FORMAT = 4
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
} | {"usage": COLUMNS}
"""The tables whose rows carry a checksum of their own, each with the columns that it covers, in order."""
COMMAND_FITS = f"crc = row_crc('command', {', '.join(SUMMED['command'])})"
"""A condition for the writer's statements: the command record fits its checksum."""


def tables(connection: sqlite3.Connection) -> set[str]:
    """The names of the tables that are in the file."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def known_format(connection: sqlite3.Connection) -> int:
    """The format of the tables, 0 if there are none.

    Raises:
        EventStoreError: they were made by another version.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise EventStoreError(
            f"a newer version of huahuo wrote this log: it has format {version}, and this one knows up to"
            f" {FORMAT}. Update huahuo, or restore a backup of before"
        )
    if 0 < version < FORMAT:
        raise EventStoreError(
            f"an unreleased version of huahuo wrote this log: it has format {version}, not {FORMAT}."
            " Open it with the version that wrote it"
        )
    return version
