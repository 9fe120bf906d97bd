"""The tables of an audit index.

How its file is made, what a row holds, and what of a body is shown and searched.

SQLite's tokenizer treats a run of Chinese characters as one word. So each such character gets spaces
around it, both in the indexed text and in a search, where a word becomes a phrase of its characters.
"""

import os
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import StoredEvent

if TYPE_CHECKING:
    import sqlite_utils

SEALED = "[sealed]"
QUERY_CHARS_MAX = 1000

SECRET_FIELDS = frozenset(
    {"password", "passwd", "refresh_token", "access_token", "client_secret", "secret", "token", "api_key"}
)
"""Our events have no such field. If another program's event has one, its value is not shown."""

_NO_TEXT = frozenset({"type", "timestamp"})
_DEPTH_MAX = 32
_SECRET = re.compile(rb'"(?:%s)"' % b"|".join(name.encode() for name in sorted(SECRET_FIELDS)))
_ENDS = str.maketrans('"\0', "  ")
"""What would end a phrase, or the whole expression."""
_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")


def shown(body: bytes) -> tuple[str, Any]:
    """The body as it may be shown, as JSON text and as a value; secret fields hold `SEALED`."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        value = {"unreadable": body.decode("utf-8", "replace")}
        return msgspec.json.encode(value).decode(), value
    if _SECRET.search(body):
        value = _sealed(value, 0)
        return msgspec.json.encode(value).decode(), value
    return body.decode(), value


def words_of(value: Any) -> str:
    """The texts and numbers in a body, for the search; without field names, `type` and `timestamp`."""
    parts: list[str] = []
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in _NO_TEXT:
                _collect(inner, parts, 0)
    return spaced(" ".join(parts))


def spaced(text: str) -> str:
    """`text` with every ideograph a word of its own."""
    return text if text.isascii() else _IDEOGRAPH.sub(r" \g<0> ", text)


def match_of(query: str) -> str:
    """An FTS5 expression that finds all words of `query`; `word*` finds every word with that beginning.

    Raises:
        ValueError: the query holds no word, or is too long.
    """
    if len(query) > QUERY_CHARS_MAX:
        raise ValueError(f"text: at most {QUERY_CHARS_MAX} characters")
    phrases: list[str] = []
    for word in query.split():
        bare = word.rstrip("*")
        if any(character.isalnum() for character in bare):
            phrases.append('"' + spaced(bare).translate(_ENDS) + '"' + (" *" if word != bare else ""))
    if not phrases:
        raise ValueError("text: holds no word to search for")
    return " AND ".join(phrases)


def _sealed(value: Any, depth: int) -> Any:
    if depth >= _DEPTH_MAX:
        return SEALED
    if isinstance(value, dict):
        return {
            name: SEALED if name in SECRET_FIELDS else _sealed(inner, depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_sealed(inner, depth + 1) for inner in value]
    return value


def _collect(value: Any, parts: list[str], depth: int) -> None:
    if isinstance(value, str):
        parts.append(value)
    elif isinstance(value, bool) or value is None or depth >= _DEPTH_MAX:
        return
    elif isinstance(value, int | float):
        parts.append(str(value))
    elif isinstance(value, dict):
        for inner in value.values():
            _collect(inner, parts, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, parts, depth + 1)


FORMAT = 1
_BUSY_TIMEOUT_MS = 10_000
COLUMNS: dict[str, type] = {
    "position": int,
    "stream": str,
    "seq": int,
    "type": str,
    "timestamp": str,
    "principal": str,
    "entity": str,
    "command_id": str,
    "cause": int,
    "build": str,
    "version": int,
    "data": str,
}
_INDEXED = ("entity", "principal", "type", "stream", "command_id")
EXACT = ("stream", "type", "principal", "entity")
"""Columns whose whole value is one word of the full text, so that the full text can narrow a search."""
ROW = ", ".join(f"event.{name}" for name in COLUMNS)
_TEXTS = f"rowid, {', '.join(EXACT)}, data"
PUT_TEXT = f"INSERT INTO event_fts({_TEXTS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608  constants
DROP_TEXT = f"INSERT INTO event_fts(event_fts, {_TEXTS}) VALUES ('delete', ?, ?, ?, ?, ?, ?)"  # noqa: S608


class Row(msgspec.Struct, frozen=True):
    """One event as the audit shows it; `data` is its body, secrets sealed."""

    position: int
    stream: str
    seq: int
    type: str
    timestamp: str
    principal: str
    entity: str
    command_id: str
    cause: int
    build: str
    version: int
    data: msgspec.Raw


def open_tables(path: Path | None) -> "sqlite_utils.Database":
    """Open the index at `path` (None: in memory). It is made if it is missing.

    Raises:
        sqlite3.DatabaseError: it is damaged, or of another version.
    """
    import sqlite_utils  # here: it is a tenth of the imports of a start

    where = ":memory:" if path is None else path
    if path is not None:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            path.chmod(0o600)
    connection = sqlite3.connect(where, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        # No write-ahead log: several processes write here, and before 3.51.3 SQLite can corrupt one
        # when one connection checkpoints while another commits.
        connection.execute("PRAGMA journal_mode=TRUNCATE")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("PRAGMA cache_size=-65536")
        db = sqlite_utils.Database(connection, recursive_triggers=False, execute_plugins=False)
        _prepare(db)
    except BaseException:
        connection.close()
        raise
    return db


def _prepare(db: "sqlite_utils.Database") -> None:
    connection = db.conn
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == FORMAT:
        return
    if version:
        raise sqlite3.DatabaseError("an index of another version")
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] == FORMAT:  # made meanwhile
        connection.execute("ROLLBACK")
        return
    db.table("meta").create({"key": str, "value": str}, pk="key", strict=True)
    db.table("stretch").create({"position": int, "clock": str}, pk="position", strict=True)
    table = db.table("event")
    table.create(COLUMNS, pk="position", not_null=set(COLUMNS), strict=True)
    for column in _INDEXED:
        table.create_index([column], index_name=f"event_by_{column}")
    db.table("stretch").create_index(["clock"], index_name="stretch_by_clock")
    table.enable_fts([*EXACT, "data"], fts_version="FTS5", tokenize="unicode61 remove_diacritics 2")
    connection.execute(f"PRAGMA user_version={FORMAT}")
    connection.execute("COMMIT")


def discard(path: Path | None) -> None:
    """Delete the file of an index."""
    if path is None:
        raise EventStoreError("an index in memory cannot be made")
    for suffix in ("", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def facts_of(connection: sqlite3.Connection) -> dict[str, str]:
    """What is noted of the index as a whole."""
    return dict(connection.execute("SELECT key, value FROM meta").fetchall())


def columns_of(event: StoredEvent) -> tuple[tuple[Any, ...], Any]:
    """The row of an event, in the order of `Row`, and its body as a value."""
    data, value = shown(event.body)
    row = (
        event.position, event.stream, event.seq, event.type, rfc3339(event.ts_ms), event.principal,
        event.entity, event.command_id, event.cause, event.build, event.version, data,
    )  # fmt: skip
    return row, value


def searched(position: int, row: Sequence[Any], value: Any) -> tuple[int | str, ...]:
    """The values of a row for the full text, in the order of `_TEXTS`."""
    columns = dict(zip(COLUMNS, row, strict=True))
    return (position, *(word(columns[name]) for name in EXACT), words_of(value))


def word(value: str) -> str:
    """`value` as one word for the tokenizer; different values give different words."""
    return "x" + value.encode().hex() if value else ""
