"""Reading a SQLite log: the queries, and a few read-only connections for them.

Every call is one short transaction: a long one would keep the write-ahead log from being emptied.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from eventstore import seq_index
from eventstore.chain import GENESIS
from eventstore.errors import Closed, Damaged, EventStoreError, Unavailable
from eventstore.model import (
    LOG_STREAM,
    Ack,
    CommandKey,
    CommandRecord,
    Head,
    Joined,
    Keyframe,
    StoredEvent,
    Tombstone,
)
from eventstore.schema import connect_reader
from eventstore.seq_index import Unindexed
from eventstore.sqlite_pages import AT_POSITIONS, BY_SEQ, Asked, as_json, select_joined
from eventstore.store import Loaded, Span

_COLUMNS = (
    "position, stream, seq, type, body, version, ts, entity, principal, command_id, cause, build, chain"
)
_EVENT_COLUMNS = _COLUMNS.replace("position, stream, seq,", "event.position, event.stream, event.seq,")
EVENTS_BY_SEQ = f"SELECT {_EVENT_COLUMNS} {BY_SEQ}"
EVENTS_AT = f"SELECT {_COLUMNS} {AT_POSITIONS}"
EVENTS_BY_POSITION = (
    f"SELECT {_COLUMNS} FROM event WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"  # noqa: S608  constant
)
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY_CODE = 0xFF
_FETCHED_ROWS = 256
_body = itemgetter(4)
"""Of `_COLUMNS`."""


def translated(error: sqlite3.Error) -> EventStoreError:
    """What a caller of the log gets instead of an error of the library; it holds no parameters."""
    if getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _CORRUPT:
        return Damaged(0, str(error))
    return Unavailable(str(error))


class Names:
    """The numbers of streams and of repeating texts. The writer adds to it; readers only look up."""

    def __init__(self) -> None:
        self.streams: dict[str, int] = {}
        self.stream_names: dict[int, str] = {}
        self.ids: dict[str, int] = {}
        self.texts: dict[int, str] = {}

    def replace(self, streams: dict[str, int], ids: dict[str, int]) -> None:
        """Hold exactly these; a reader at work sees the old ones or the new ones, never none."""
        self.streams, self.ids = streams, ids
        self.stream_names = {number: name for name, number in streams.items()}
        self.texts = {number: text for text, number in ids.items()}


def load(connection: sqlite3.Connection, names: Names, unindexed: Unindexed) -> Loaded:
    """Where the log stands, from one moment; fills the other two. A stream's head is one index seek."""
    heads: dict[str, Head] = {}
    streams: dict[str, int] = {}
    seq_index.look(connection, unindexed)
    for number, name, first, seq in connection.execute(
        "SELECT id, name, first, (SELECT max(seq) FROM seq_index WHERE stream = stream.id) FROM stream"
    ):
        streams[name] = number
        heads[name] = Head(first, unindexed.last(number) or (first - 1 if seq is None else seq))
    ids = {text: number for number, text in connection.execute("SELECT id, text FROM name")}
    names.replace(streams, ids)
    counters = dict(connection.execute("SELECT name, next FROM counter"))
    (log_id,) = connection.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()
    position, chain = select_end(connection)
    return Loaded(log_id.decode(), position, chain, heads, counters)


def select_end(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """The last position and its chain."""
    sql = "SELECT position, chain FROM event ORDER BY position DESC LIMIT 1"
    row: tuple[int, bytes] | None = connection.execute(sql).fetchone()
    return row or (0, GENESIS)


def select_command(connection: sqlite3.Connection, key: CommandKey) -> CommandRecord | None:
    """The record of a command, if any."""
    row = connection.execute(
        "SELECT fingerprint, reply, at_stream, at_seq FROM command WHERE user = ? AND client = ? AND id = ?",
        (key.user, key.client, key.id),
    ).fetchone()
    return None if row is None else CommandRecord(key, *row)


def select_events(
    connection: sqlite3.Connection, names: Names, sql: str, parameters: Sequence[int | str], bytes_max: int
) -> list[StoredEvent]:
    """The events of a query until their bodies exceed `bytes_max`; at least one if there is one."""
    events: list[StoredEvent] = []
    size = 0
    streams: Mapping[int, str] = names.stream_names
    texts: Mapping[int, str] = names.texts
    cursor = connection.execute(sql, parameters)
    try:
        # Some at a time: a comprehension is twice as quick as a loop that weighs each row.
        while rows := cursor.fetchmany(_FETCHED_ROWS):
            events += [
                StoredEvent(
                    position, streams[stream], seq, texts[type_], body, version, ts,
                    entity, who, command, cause, texts[build], chain,
                )
                for (
                    position, stream, seq, type_, body, version, ts,
                    entity, who, command, cause, build, chain,
                ) in rows
            ]  # fmt: skip
            size += sum(map(len, map(_body, rows)))
            if size > bytes_max:
                return _within(events, bytes_max)
    except KeyError:
        first = next(r[0] for r in rows if r[1] not in streams or not {r[3], r[11]} <= texts.keys())
        raise Damaged(first, "its stream, type or build has no name") from None
    finally:
        cursor.close()  # ends the read transaction also when not all rows were taken
    return events


def _within(events: list[StoredEvent], bytes_max: int) -> list[StoredEvent]:
    """The first events, until their bodies exceed `bytes_max`; at least one."""
    size = 0
    for count, event in enumerate(events):
        size += len(event.body)
        if count and size > bytes_max:
            return events[:count]
    return events


def select_stream(
    connection: sqlite3.Connection, names: Names, asked: Asked, bytes_max: int
) -> list[StoredEvent]:
    """As `select_events`, of one stream: what the table by (stream, seq) has, then what it lacks."""
    found = select_events(connection, names, EVENTS_BY_SEQ, asked.bounds, bytes_max)
    missing = asked.limit - len(found)
    # Where it ended early, by size or by what was pruned, the rest is read the next time.
    if not asked.positions or missing <= 0 or (found and found[-1].seq != asked.upto):
        return found
    at = (as_json(asked.positions), missing)
    return _within(found + select_events(connection, names, EVENTS_AT, at, bytes_max), bytes_max)


def select_tombstones(
    connection: sqlite3.Connection, names: Names, after: int, upto: int, limit: int
) -> list[Tombstone]:
    """What stays of the pruned events in (after, upto]."""
    sql = (
        "SELECT position, stream, seq, chain FROM pruned WHERE position > ? AND position <= ?"
        " ORDER BY position LIMIT ?"
    )
    streams = names.stream_names
    found = connection.execute(sql, (after, upto, limit)).fetchall()
    return [Tombstone(position, streams[stream], seq, chain) for position, stream, seq, chain in found]


class SqliteReads:
    """Implements `store.Reads`; any number of calls at once, each on a connection of its own."""

    def __init__(self, path: Path, names: Names, unindexed: Unindexed) -> None:
        self._path = path
        self._names = names
        self._unindexed = unindexed
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    def close(self) -> None:
        """Close all connections; no call may be running."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def load(self) -> Loaded:
        """Where the log stands now."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                return load(connection, self._names, self._unindexed)
            finally:
                connection.execute("COMMIT")

    def events(
        self, stream: str, after: int, upto: int, events_max: int, bytes_max: int
    ) -> list[StoredEvent]:
        """See `Reads`."""
        with self._connection() as connection:
            if stream == LOG_STREAM:
                sql, bounds = EVENTS_BY_POSITION, (after, upto, events_max)
                return select_events(connection, self._names, sql, bounds, bytes_max)
            number = self._names.streams.get(stream)
            if number is None:
                return []
            while True:
                asked = self._asked(number, after, upto, events_max)
                found = select_stream(connection, self._names, asked, bytes_max)
                after = asked.end
                if found or after >= upto:
                    return found

    def joined(self, spans: Sequence[Span]) -> list[Joined | None]:
        """See `Reads`."""
        number = self._names.streams.get
        asked = [
            (self._asked(number(s.stream, 0), s.after, s.upto, s.events_max), s.bytes_max) for s in spans
        ]
        with self._connection() as connection:
            found = select_joined(connection, asked)
            for place, (page, bytes_max) in enumerate(asked):
                after, upto = page.end, spans[place].upto
                while found[place] is None and after < upto:
                    rest = self._asked(page.stream, after, upto, page.limit)
                    [found[place]] = select_joined(connection, [(rest, bytes_max)])
                    after = rest.end
            return found

    def tombstones(self, after: int, upto: int, limit: int) -> list[Tombstone]:
        """See `Reads`."""
        with self._connection() as connection:
            return select_tombstones(connection, self._names, after, upto, limit)

    def chains(self, after: int, upto: int) -> list[bytes]:
        """See `Reads`."""
        sql = "SELECT position, chain FROM {} WHERE position > ? AND position <= ? ORDER BY position"
        with self._connection() as connection:
            connection.execute("BEGIN")  # both from one moment
            try:
                kept = connection.execute(sql.format("event"), (after, upto)).fetchall()
                pruned = connection.execute(sql.format("pruned"), (after, upto)).fetchall()
            finally:
                connection.execute("COMMIT")
        links = sorted(kept + pruned) if pruned else kept
        for position, link in enumerate(links, after + 1):
            if link[0] != position:
                raise Damaged(position, "missing")
        return [chain for _position, chain in links]

    def command(self, key: CommandKey) -> CommandRecord | None:
        """See `Reads`."""
        with self._connection() as connection:
            return select_command(connection, key)

    def sealed(self, owner: str, name: str) -> tuple[bytes, bytes] | None:
        """See `Reads`."""
        sql = "SELECT wrapped, box FROM sealed JOIN data_key USING (owner) WHERE owner = ? AND name = ?"
        with self._connection() as connection:
            row: tuple[bytes, bytes] | None = connection.execute(sql, (owner, name)).fetchone()
            return row

    def blob(self, blob_id: str) -> bytes | None:
        """See `Reads`."""
        return self._value("SELECT packed FROM blob WHERE id = ?", (blob_id,))

    def rows(self, table: str, part: str, before: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """See `Reads`."""
        sql = "SELECT key, value FROM projection WHERE tbl = ? AND part = ? {} ORDER BY key DESC LIMIT ?"
        with self._connection() as connection:
            if before is None:
                return connection.execute(sql.format(""), (table, part, limit)).fetchall()
            return connection.execute(sql.format("AND key < ?"), (table, part, before, limit)).fetchall()

    def row(self, table: str, part: str, key: bytes) -> bytes | None:
        """See `Reads`."""
        sql = "SELECT value FROM projection WHERE tbl = ? AND part = ? AND key = ?"
        return self._value(sql, (table, part, key))

    def keyframe(self, stream: str, fold: str, fingerprint: str, at: int) -> Keyframe | None:
        """See `Reads`."""
        sql = (
            "SELECT seq, state FROM keyframe WHERE stream = ? AND fold = ? AND fingerprint = ? AND seq <= ?"
            " ORDER BY seq DESC LIMIT 1"
        )
        with self._connection() as connection:
            row = connection.execute(sql, (stream, fold, fingerprint, at)).fetchone()
            return None if row is None else Keyframe(stream, fold, fingerprint, *row)

    def acks(self, user: str | None) -> list[Ack]:
        """See `Reads`."""
        sql = "SELECT user, client, stream, seq FROM ack WHERE ?1 IS NULL OR user = ?1 ORDER BY 1, 2, 3"
        with self._connection() as connection:
            return [Ack(*row) for row in connection.execute(sql, (user,))]

    def _asked(self, stream: int, after: int, upto: int, limit: int) -> Asked:
        """Before anything is read: what leaves `Unindexed` meanwhile is in the table by then."""
        indexed, positions = self._unindexed.split(stream, after, upto, limit)
        return Asked(stream, after, indexed, limit, positions)

    def _value(self, sql: str, parameters: tuple[str | bytes, ...]) -> bytes | None:
        with self._connection() as connection:
            row = connection.execute(sql, parameters).fetchone()
            return None if row is None else row[0]

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """An idle connection or a new one. There are never more than jobs that run at once."""
        if self._closed:
            raise Closed("the log has been closed")
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = connect_reader(self._path)
            try:
                yield connection
            finally:
                self._idle.append(connection)
        except sqlite3.Error as error:
            raise translated(error) from None
