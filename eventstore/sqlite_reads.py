"""Reading a SQLite log: the queries, and a few read-only connections for them.

Every call is one short transaction: a long one would keep the write-ahead log from being emptied.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from eventstore import seq_index
from eventstore.chain import GENESIS, relink
from eventstore.corruption import Corruption
from eventstore.errors import MISREAD, Closed, Corrupt, Damaged, EventStoreError, Unavailable
from eventstore.joining import joined_of
from eventstore.meta import get_meta
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
from eventstore.schema import connect_reader, is_old
from eventstore.seq_index import Unindexed
from eventstore.sqlite_pages import AT_POSITIONS, BY_SEQ, Asked, as_json, is_pruned, select_joined
from eventstore.store import Loaded, Span
from eventstore.sums import must_fit

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


def translated(error: sqlite3.Error, place: str = "the log's file") -> EventStoreError:
    """What a caller of the log gets instead of an error of the library; it holds no parameters."""
    code = getattr(error, "sqlite_errorcode", None)
    # The library for Python finds by itself, without a code, that a text is none or a value is too long.
    found_here = code is None and (isinstance(error, sqlite3.DataError) or "decode" in str(error))
    if found_here or (code is not None and code & _PRIMARY_CODE in _CORRUPT):
        return Corrupt(place, str(error))
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


def load(connection: sqlite3.Connection, names: Names, unindexed: Unindexed, *, summed: bool) -> Loaded:
    """Where the log stands, from one moment; fills the other two. A stream's head is one index seek.

    `summed`: with the checksums of what is not indexed yet.

    Raises:
        Corrupt: what it is known by does not fit its check.
    """
    heads: dict[str, Head] = {}
    streams: dict[str, int] = {}
    seq_index.look(connection, unindexed, summed=summed)
    for number, name, first, crc, seq in connection.execute(
        "SELECT id, name, first, crc, (SELECT max(seq) FROM seq_index WHERE stream = stream.id) FROM stream"
    ):
        must_fit(crc, "stream", number, name, first)
        streams[name] = number
        heads[name] = Head(first, unindexed.last(number) or (first - 1 if seq is None else seq))
    ids: dict[str, int] = {}
    for number, text, crc in connection.execute("SELECT id, text, crc FROM name"):
        must_fit(crc, "name", number, text)
        ids[text] = number
    names.replace(streams, ids)
    counters: dict[str, int] = {}
    for counter, following, crc in connection.execute("SELECT name, next, crc FROM counter"):
        must_fit(crc, "counter", counter, following)
        counters[counter] = following
    log_id = get_meta(connection, "log")
    if log_id is None:
        raise Corrupt("the log's own value `log`", "missing")
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
        "SELECT fingerprint, reply, at_stream, at_seq, ts, crc FROM command"
        " WHERE user = ? AND client = ? AND id = ?",
        (key.user, key.client, key.id),
    ).fetchone()
    if row is None:
        return None
    must_fit(row[-1], "command", key.user, key.client, key.id, *row[:-1])
    return CommandRecord(key, *row[:4])


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
        raise Corrupt("an event", "its stream, type or build has no name", position=first) from None
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


def prove_stream(
    connection: sqlite3.Connection, names: Names, asked: Asked, events: Sequence[StoredEvent]
) -> None:
    """Hold what was found of a stream against the chain; what is missing must have been pruned.

    Raises:
        Corrupt: an event is another's, is not what was written, or was lost.
    """
    place = f"stream {asked.name}"
    last = asked.after
    for event in events:
        if event.stream != asked.name:
            raise Corrupt(place, "the index leads to another stream's event", position=event.position)
        if event.seq != last + 1 and not is_pruned(connection, asked.stream, range(last + 1, event.seq)):
            raise Corrupt(place, f"event {last + 1} is lost, or the index leads elsewhere")
        last = event.seq
    if not events and not is_pruned(connection, asked.stream, range(asked.after + 1, asked.end + 1)):
        raise Corrupt(place, f"event {asked.after + 1} is lost, or the index leads elsewhere")
    prove_events(connection, names, events)


def prove_positions(
    connection: sqlite3.Connection, after: int, upto: int, events: Sequence[StoredEvent]
) -> None:
    """What is missing of the log behind `after` must have been pruned.

    Raises:
        Corrupt: an event was lost.
    """
    end = events[-1].position if events else upto
    missing = end - after - len(events)
    if not missing:
        return
    sql = "SELECT position FROM pruned WHERE position > ? AND position <= ?"
    there = {position for (position,) in connection.execute(sql, (after, end))}
    there.update(event.position for event in events)
    lost = next((position for position in range(after + 1, end + 1) if position not in there), None)
    if lost is not None:
        raise Corrupt(f"stream {LOG_STREAM}", "the event is lost", position=lost)


def prove_events(connection: sqlite3.Connection, names: Names, events: Sequence[StoredEvent]) -> None:
    """Hold events, ascending by position, against the hash chain.

    Raises:
        Corrupt: the first one that is not what was written.
    """
    wanted = [
        event.position - 1
        for n, event in enumerate(events)
        if event.position > 1 and not (n and events[n - 1].position == event.position - 1)
    ]
    links = _links(connection, wanted) if wanted else {}
    at, before = 0, GENESIS
    for event in events:
        if event.position != at + 1:
            before = links.get(event.position - 1, b"")
        if relink(before, event) != event.chain and not _fits_again(connection, names, event):
            raise Corrupt(
                f"stream {event.stream}",
                f"event {event.seq} does not fit the hash chain",
                position=event.position,
            )
        at, before = event.position, event.chain


def _links(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, bytes]:
    """The links at `positions`, pruned or not."""
    links: dict[int, bytes] = {}
    for table in ("event", "pruned"):  # in this order: what is pruned meanwhile moves that way
        asked = as_json([position for position in positions if position not in links])
        sql = f"SELECT position, chain FROM {table} WHERE position IN (SELECT value FROM json_each(?))"  # noqa: S608
        links.update(connection.execute(sql, (asked,)))
        if len(links) == len(positions):
            break
    return links


def _fits_again(connection: sqlite3.Connection, names: Names, event: StoredEvent) -> bool:
    """Whether only the link of the event before was damaged: then that event leads to the right one."""
    position = event.position - 1
    if position < 1:
        return False
    bounds = (position - 1, position, 1)
    try:
        found = select_events(connection, names, EVENTS_BY_POSITION, bounds, 1 << 62)
    except (EventStoreError, sqlite3.Error):
        return False
    before = GENESIS if position == 1 else _links(connection, [position - 1]).get(position - 1, b"")
    return bool(found) and relink(relink(before, found[0]), event) == event.chain


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
    """Implements `store.Reads`; any number of calls at once, each on a connection of its own.

    Nothing leaves here that was not held against its check.
    """

    def __init__(self, path: Path, names: Names, unindexed: Unindexed) -> None:
        self._path = path
        self._names = names
        self._unindexed = unindexed
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._is_old = False  # without checksums
        self.corruption = Corruption()

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
                return load(connection, self._names, self._unindexed, summed=False)
            finally:
                connection.execute("COMMIT")

    def events(
        self, stream: str, after: int, upto: int, events_max: int, bytes_max: int
    ) -> list[StoredEvent]:
        """See `Reads`."""
        with self._connection(f"stream {stream}") as connection:
            if stream == LOG_STREAM:
                sql, bounds = EVENTS_BY_POSITION, (after, upto, events_max)
                found = select_events(connection, self._names, sql, bounds, bytes_max)
                prove_positions(connection, after, upto, found)
                prove_events(connection, self._names, found)
                return found
            number = self._names.streams.get(stream)
            if number is None:
                return []
            while True:
                asked = self._asked(stream, number, after, upto, events_max)
                found = select_stream(connection, self._names, asked, bytes_max)
                prove_stream(connection, self._names, asked, found)
                after = asked.end
                if found or after >= upto:
                    return found

    def joined(self, spans: Sequence[Span]) -> list[Joined | None]:
        """See `Reads`."""
        number = self._names.streams.get
        asked = [
            (self._asked(s.stream, number(s.stream, 0), s.after, s.upto, s.events_max), s.bytes_max)
            for s in spans
        ]
        place = f"stream {spans[0].stream}" if len(spans) == 1 else "several streams"
        with self._connection(place) as connection:
            found = select_joined(connection, asked)
        return [
            self._joined_one_by_one(span, page) if joined is None else joined
            for joined, span, (page, _) in zip(found, spans, asked, strict=True)
        ]

    def _joined_one_by_one(self, span: Span, page: Asked) -> Joined | None:
        """By the hash chain: what the checksums could not prove, or what has none."""
        events = self.events(*span)
        joined = joined_of(((event.seq, event.body) for event in events), span.bytes_max)
        has_checksums = not self._is_old and (page.crcs or not page.positions)
        if joined is not None and has_checksums:
            self.corruption.note(
                Corrupt(
                    f"index of stream {span.stream}", f"the checksums behind event {span.after} do not fit"
                )
            )
        return joined

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
        with self._connection(f"command record {key.user} {key.client} {key.id}") as connection:
            return select_command(connection, key)

    def sealed(self, owner: str, name: str) -> tuple[bytes, bytes] | None:
        """See `Reads`. Both are bound to their names by the way in which they are sealed."""
        sql = "SELECT wrapped, box FROM sealed JOIN data_key USING (owner) WHERE owner = ? AND name = ?"
        with self._connection(f"secret {name} of {owner}") as connection:
            row: tuple[bytes, bytes] | None = connection.execute(sql, (owner, name)).fetchone()
            return row

    def blob(self, blob_id: str) -> bytes | None:
        """See `Reads`. Its name is its check."""
        with self._connection(f"blob {blob_id}") as connection:
            row = connection.execute("SELECT packed FROM blob WHERE id = ?", (blob_id,)).fetchone()
            return None if row is None else row[0]

    def rows(self, table: str, part: str, before: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """See `Reads`."""
        sql = "SELECT key, value, crc FROM projection WHERE tbl = ? AND part = ? {} ORDER BY key DESC LIMIT ?"
        with self._connection(f"projection {table} {part}") as connection:
            if before is None:
                found = connection.execute(sql.format(""), (table, part, limit)).fetchall()
            else:
                found = connection.execute(sql.format("AND key < ?"), (table, part, before, limit)).fetchall()
            for key, value, crc in found:
                must_fit(crc, "projection", table, part, key, value)
            return [(key, value) for key, value, _ in found]

    def row(self, table: str, part: str, key: bytes) -> bytes | None:
        """See `Reads`."""
        sql = "SELECT value, crc FROM projection WHERE tbl = ? AND part = ? AND key = ?"
        with self._connection(f"projection {table} {part}") as connection:
            row = connection.execute(sql, (table, part, key)).fetchone()
            if row is None:
                return None
            must_fit(row[1], "projection", table, part, key, row[0])
            value: bytes = row[0]
            return value

    def keyframe(self, stream: str, fold: str, fingerprint: str, at: int) -> Keyframe | None:
        """See `Reads`."""
        sql = (
            "SELECT seq, state, crc FROM keyframe WHERE stream = ? AND fold = ? AND fingerprint = ?"
            " AND seq <= ? ORDER BY seq DESC LIMIT 1"
        )
        with self._connection(f"keyframe {fold} of {stream}") as connection:
            row = connection.execute(sql, (stream, fold, fingerprint, at)).fetchone()
            if row is None:
                return None
            must_fit(row[2], "keyframe", stream, fold, fingerprint, *row[:2])
            return Keyframe(stream, fold, fingerprint, *row[:2])

    def acks(self, user: str | None) -> list[Ack]:
        """See `Reads`."""
        sql = "SELECT user, client, stream, seq FROM ack WHERE ?1 IS NULL OR user = ?1 ORDER BY 1, 2, 3"
        with self._connection() as connection:
            return [Ack(*row) for row in connection.execute(sql, (user,))]

    def _asked(self, name: str, stream: int, after: int, upto: int, limit: int) -> Asked:
        """Before anything is read: what leaves `Unindexed` meanwhile is in the table by then."""
        indexed, positions, crcs, before = self._unindexed.split(stream, after, upto, limit)
        return Asked(name, stream, after, indexed, limit, positions, crcs, before)

    @contextlib.contextmanager
    def _connection(self, place: str = "the log's file") -> Iterator[sqlite3.Connection]:
        """An idle connection or a new one. There are never more than jobs that run at once.

        `place` is what is read, for the error if it cannot be.
        """
        if self._closed:
            raise Closed("the log has been closed")
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = connect_reader(self._path)
                self._is_old = is_old(connection)
            try:
                yield connection
            finally:
                self._idle.append(connection)
        except sqlite3.Error as error:
            raise translated(error, place) from None
        except MISREAD as error:
            # A column whose header is damaged has a value of another type.
            raise Corrupt(place, f"a value is none that was written ({type(error).__name__})") from error
