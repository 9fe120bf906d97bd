"""Reading a SQLite log.

Its events, their places and names, and the rows besides them, each proven by its checksum.

Every call is one short transaction: a long one would keep the write-ahead log from being emptied.
"""

import sqlite3
from collections.abc import Sequence
from itertools import batched
from pathlib import Path

from huahuo.eventstore.core.storage_port import Loaded, Span
from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.errors import Corrupt, Damaged
from huahuo.eventstore.limits import INT64_MAX
from huahuo.eventstore.model import (
    LOG_STREAM,
    Ack,
    CommandKey,
    CommandRecord,
    Head,
    Joined,
    Keyframe,
    RowRange,
    RowsAtOnce,
    StoredEvent,
    Tombstone,
    Usage,
    joined_of,
)
from huahuo.eventstore.sqlite.connections import ReaderPool, snapshot
from huahuo.eventstore.sqlite.damage import index_of, must_be_absent
from huahuo.eventstore.sqlite.events import (
    EVENTS_BY_POSITION,
    Asked,
    prove_events,
    prove_positions,
    prove_stream,
    select_events,
    select_joined,
    select_stream,
    select_tombstones,
)
from huahuo.eventstore.sqlite.initial_state import load, select_end
from huahuo.eventstore.sqlite.names import (
    Names,
    read_naming,
    select_ended,
    select_head,
    select_number,
)
from huahuo.eventstore.sqlite.rows import select_page, select_parts, select_range
from huahuo.eventstore.sqlite.schema import SELECT_COUNTED, SELECT_USAGE, fitting, get_meta, must_fit
from huahuo.eventstore.sqlite.unindexed import Unindexed

_IDS_A_STATEMENT = 256
_COMMAND = (
    "SELECT id, fingerprint, reply, at_stream, at_seq, ts, crc FROM command"
    " WHERE user = ? AND client = ? AND id IN ({})"
)
_COMMANDS = {
    size: _COMMAND.format(", ".join("?" * size))
    for size in (1 << power for power in range(_IDS_A_STATEMENT.bit_length()))
}


def select_commands(
    connection: sqlite3.Connection, keys: Sequence[CommandKey], since_ms: int = -INT64_MAX
) -> dict[CommandKey, CommandRecord]:
    """The records of those of `keys` that have one since `since_ms`, by one query for each client.

    Raises Corrupt.
    """
    ids: dict[tuple[str, str], list[str]] = {}
    for key in keys:
        ids.setdefault((key.user, key.client), []).append(key.id)
    found: dict[CommandKey, CommandRecord] = {}
    for (user, client), of_client in ids.items():
        for some in batched(of_client, _IDS_A_STATEMENT):
            # Few different statements, so that all of them stay prepared: the last id fills the gaps.
            size = 1 << (len(some) - 1).bit_length()
            asked = (*some, *some[-1:] * (size - len(some)))
            for id_, *rest, crc in connection.execute(_COMMANDS[size], (user, client, *asked)):
                must_fit(crc, "command", user, client, id_, *rest)
                if rest[4] >= since_ms:
                    key = CommandKey(user, client, id_)
                    found[key] = CommandRecord(key, *rest[:4])
    return found


_SELECT_ACKS = (
    "SELECT user, client, stream, seq, crc FROM ack WHERE (:user IS NULL OR user = :user) AND"
    " (:client IS NULL OR client = :client) AND (:stream IS NULL OR stream = :stream) ORDER BY 1, 2, 3"
)


class SqliteReads:
    """Implements `storage_port.Reads`; any number of calls at once.

    Each value is checked before it is returned.
    """

    def __init__(self, path: Path, names: Names, unindexed: Unindexed) -> None:
        self._pool = ReaderPool(path)
        self._names = names
        self._unindexed = unindexed
        self.corruption = Corruption()

    def command(self, key: CommandKey) -> CommandRecord | None:
        """See `Reads`."""
        with self._pool.connection(f"command record {key.user} {key.client} {key.id}") as connection:
            record = select_commands(connection, (key,)).get(key)
            if record is None:
                must_be_absent(connection, "command", [(key.user, key.client, key.id)])
            return record

    def sealed(self, owner: str, name: str) -> tuple[bytes, bytes] | None:
        """See `Reads`. Sealing binds the box to its names; a lost one that stands for it does not fit."""
        sql = (
            "SELECT wrapped, box, data_key.crc, sealed.crc FROM sealed LEFT JOIN data_key USING (owner)"
            " WHERE owner = ? AND name = ?"
        )
        with self._pool.connection(f"secret {name} of {owner}") as connection:
            row = connection.execute(sql, (owner, name)).fetchone()
            if row is None:
                must_be_absent(connection, "sealed", [(owner, name)])
                return None
            wrapped, box, key_crc, box_crc = row
            if wrapped is None:  # a key goes together with all that is sealed under it
                raise Corrupt(index_of("data_key"), f"it lacks {owner}, which has a secret")
            must_fit(key_crc, "data_key", owner, wrapped)
            must_fit(box_crc, "sealed", owner, name, box)
            return wrapped, box

    def blob(self, blob_id: str) -> bytes | None:
        """See `Reads`. The caller compares the content with its name, which is its hash."""
        with self._pool.connection(f"blob {blob_id}") as connection:
            row = connection.execute("SELECT packed FROM blob WHERE id = ?", (blob_id,)).fetchone()
            if row is not None and not isinstance(row[0], bytes):
                raise TypeError("the content is no bytes")  # its row is on a page of another table
            return None if row is None else row[0]

    def rows(
        self, table: str, part: str, before: bytes | None, after: bytes | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """See `Reads`."""
        with self._pool.connection(f"projection {table} {part}") as connection:
            return select_page(connection, table, part, before, after, limit)

    def rows_at_once(self, asked: Sequence[RowRange]) -> RowsAtOnce:
        """See `Reads`."""
        place = f"projection {asked[0].table} {asked[0].part}" if len(asked) == 1 else "several projections"
        with self._pool.connection(place) as connection, snapshot(connection):
            rows = [select_range(connection, one) for one in asked]
            return RowsAtOnce(select_end(connection)[0], rows)

    def parts(self, table: str, after: str | None, limit: int) -> list[str]:
        """See `Reads`."""
        with self._pool.connection(f"projection {table}") as connection:
            return select_parts(connection, table, after, limit)

    def row(self, table: str, part: str, key: bytes) -> bytes | None:
        """See `Reads`."""
        sql = "SELECT value, crc FROM projection WHERE tbl = ? AND part = ? AND key = ?"
        with self._pool.connection(f"projection {table} {part}") as connection:
            row = connection.execute(sql, (table, part, key)).fetchone()
            if row is None:
                must_be_absent(connection, "projection", [(table, part, key)])
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
        with self._pool.connection(f"keyframe {fold} of {stream}") as connection:
            row = connection.execute(sql, (stream, fold, fingerprint, at)).fetchone()
            if row is None:
                return None
            must_fit(row[2], "keyframe", stream, fold, fingerprint, *row[:2])
            return Keyframe(stream, fold, fingerprint, *row[:2])

    def acks(self, user: str | None, client: str | None, stream: str | None) -> list[Ack]:
        """See `Reads`."""
        asked = {"user": user, "client": client, "stream": stream}
        with self._pool.connection("acks") as connection:
            return [Ack(*row) for row in fitting("ack", connection.execute(_SELECT_ACKS, asked))]

    def single(self, key: str) -> bytes | None:
        """A single value of the log's, None if it has none. Raises Corrupt: it is not what was written."""
        with self._pool.connection(f"the log's own value `{key}`") as connection:
            return get_meta(connection, key)

    def counted(self) -> int:
        """See `Reads`."""
        with self._pool.connection() as connection:
            row = connection.execute(SELECT_COUNTED).fetchone()
            return int(row[0]) if row else 0

    def usage(self) -> tuple[int, list[Usage]]:
        """See `Reads`."""
        with self._pool.connection() as connection, snapshot(connection):
            row = connection.execute(SELECT_COUNTED).fetchone()
            found = [Usage(*one) for one in fitting("usage", connection.execute(SELECT_USAGE))]
            return int(row[0]) if row else 0, found

    def close(self) -> None:
        """Close all connections. One that a call still has is closed when that ends."""
        self._pool.close()

    def load(self) -> Loaded:
        """The log's end, heads and counters now."""
        with self._pool.connection() as connection, snapshot(connection):
            return load(connection, self._names, self._unindexed, read_naming(connection), summed=False)

    def events(
        self, stream: str, after: int, upto: int, events_max: int, bytes_max: int
    ) -> list[StoredEvent]:
        """See `Reads`."""
        with self._pool.connection(f"stream {stream}") as connection:
            if stream == LOG_STREAM:
                sql, bounds = EVENTS_BY_POSITION, (after, upto, events_max)
                found = select_events(connection, self._names, sql, bounds, bytes_max)
                prove_positions(connection, after, upto, found.events)
                prove_events(connection, self._names, found)
                return found.events
            number = self._number(connection, stream)
            if not number:
                return []
            while True:
                asked = self._asked(stream, number, after, upto, events_max)
                found = select_stream(connection, self._names, asked, bytes_max)
                prove_stream(connection, self._names, asked, found)
                after = asked.end
                if found.events or after >= upto:
                    return found.events

    def joined(self, spans: Sequence[Span]) -> list[Joined | None]:
        """See `Reads`."""
        place = f"stream {spans[0].stream}" if len(spans) == 1 else "several streams"
        with self._pool.connection(place) as connection:
            asked = [
                (self._asked(name, self._number(connection, name), after, upto, limit), bytes_max)
                for name, after, upto, limit, bytes_max in spans
            ]
            found = select_joined(connection, asked)
        return [
            self._joined_one_by_one(span, page) if joined is None else joined
            for joined, span, (page, _) in zip(found, spans, asked, strict=True)
        ]

    def _joined_one_by_one(self, span: Span, page: Asked) -> Joined | None:
        """Prove a page by the hash chain, where its checksums do not fit or are not known."""
        events = self.events(*span)
        joined = joined_of(((event.seq, event.body) for event in events), span.bytes_max)
        if joined is not None and (page.crcs or not page.positions):
            self.corruption.note(
                Corrupt(
                    f"index of stream {span.stream}", f"the checksums behind event {span.after} do not fit"
                )
            )
        return joined

    def ended_head(self, stream: str, upto: int) -> Head | None:
        """See `Reads`."""
        names = self._names
        if not names.ended.may_hold(stream):
            return None
        with self._pool.connection(f"stream {stream}") as connection:
            number = self._number(connection, stream)
            return select_head(connection, self._unindexed, number, upto) if number else None

    def ended_streams(self, prefix: str) -> list[str]:
        """See `Reads`."""
        with self._pool.connection() as connection:
            return select_ended(connection, prefix)

    def has_type(self, type_: str) -> bool:
        """See `Reads`. Builds are among these texts too: such a type would take nothing more either."""
        return type_ in self._names.ids

    def tombstones(self, after: int, upto: int, limit: int) -> list[Tombstone]:
        """See `Reads`."""
        with self._pool.connection() as connection:
            return select_tombstones(connection, self._names, after, upto, limit)

    def chains(self, after: int, upto: int) -> list[bytes]:
        """See `Reads`."""
        sql = "SELECT position, chain FROM {} WHERE position > ? AND position <= ? ORDER BY position"
        with self._pool.connection() as connection, snapshot(connection):
            kept = connection.execute(sql.format("event"), (after, upto)).fetchall()
            pruned = connection.execute(sql.format("pruned"), (after, upto)).fetchall()
        links = sorted(kept + pruned) if pruned else kept
        for position, link in enumerate(links, after + 1):
            if link[0] != position:
                raise Damaged(position, "missing")
        return [chain for _position, chain in links]

    def links(self, places: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """See `Reads`. A damaged one is noted, and counts as unknown."""
        links: list[bytes | None] = []
        for stream, seq in places:
            try:
                found = self.events(stream, seq - 1, seq, 1, 0)
            except Corrupt as error:
                self.corruption.note(error)
                found = []
            links.append(found[0].chain if found else None)
        return links

    def _number(self, connection: sqlite3.Connection, stream: str) -> int:
        """The number of `stream`, 0 if it has none."""
        number = self._names.number(stream)
        if number is None and self._names.ended.may_hold(stream):
            number = select_number(connection, stream)
        return number or 0

    def _asked(self, name: str, stream: int, after: int, upto: int, limit: int) -> Asked:
        """Call it before the query: an event that leaves `Unindexed` after this is in the table by then."""
        indexed, positions, crcs, before = self._unindexed.split(stream, after, upto, limit)
        return Asked(name, stream, after, indexed, limit, positions, crcs, before)
